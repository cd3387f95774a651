"""
What RDS does with a token, for pam_exec: the user's password comes by stdin, exit 0 lets in.

Run by PostgreSQL's PAM as whoever PostgreSQL runs as. The signature is computed
anew from the specification (AWS Signature Version 4, presigned URLs), with
nothing of AWS's own code. Its one argument is a JSON file: C{secret} (the secret
key), C{life} (seconds that a token is good for), C{ahead} (seconds that this
clock is ahead) and C{host}, whom the token must be for.
"""

import datetime
import hashlib
import hmac
import json
import os
import sys
from urllib.parse import parse_qsl, quote, urlsplit

SKEW = 300


def verdict(token: str, user: str, settings: dict[str, object]) -> str:
    """Why a token is not good; empty when it is."""
    parts = urlsplit("https://" + token)
    values = dict(parse_qsl(parts.query))
    given = values.pop("X-Amz-Signature", "")
    if parts.netloc != settings["host"] or values.get("DBUser") != user:
        return "for another host or user"
    date = values["X-Amz-Date"]
    made = datetime.datetime.strptime(date + "+0000", "%Y%m%dT%H%M%SZ%z")
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(
        seconds=float(str(settings["ahead"]))
    )
    age = (now - made).total_seconds()
    if age > float(str(settings["life"])):
        return f"expired: {age} s old"
    if age < -SKEW:
        return "from the future"
    query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in sorted(values.items())
    )
    nothing = hashlib.sha256(b"").hexdigest()
    canonical = f"GET\n/\n{query}\nhost:{parts.netloc}\n\nhost\n{nothing}"
    scope = values["X-Amz-Credential"].partition("/")[2]
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(("AWS4-HMAC-SHA256", date, scope, digest))
    key = b"AWS4" + str(settings["secret"]).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return "" if hmac.compare_digest(expected, given) else "wrongly signed"


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        found = json.load(file)
    password = sys.stdin.buffer.read().rstrip(b"\0").decode("utf-8", "replace")
    try:
        why = verdict(password, os.environ["PAM_USER"], found)
    except (KeyError, ValueError) as error:
        why = f"no token: {error!r}"
    sys.exit(1 if why else 0)
