"""
A PAC file of the routes in force: what a browser sends here, and what it is refused.

Source: Netscape, "Navigator Proxy Auto-Config File Format" (1996). Both words
for the proxy are given, since some browsers know only the one or the other.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Network

from proxyd.rules.routes import Rule, Rules

_HEAD = """\
// The routes of proxyd, as they are now. What is denied is sent there too, and
// refused there: a browser must not go round it.
function FindProxyForURL(url, host) {
  var proxy = %s;
  host = host.toLowerCase();
"""


def pac_text(rules: Rules, place: str) -> str:
    """
    The file.

    A browser knows no user of ours and often no port: rules for some users or
    ports only count as if they were for all.

    @param place: C{HOST:PORT} of this listener, as the browser reached it
    """
    lines = [_HEAD % json.dumps(f"SOCKS5 {place}; SOCKS {place}")]
    for rule in rules.rules:
        tests = " || ".join(_tests(rule))
        if tests:
            lines.append(f"  if ({tests}) return proxy;  // route {rule.number}\n")
    lines.append('  return "DIRECT";\n' if _straight(rules) else "  return proxy;\n")
    lines.append("}\n")
    return "".join(lines)


def _straight(rules: Rules) -> bool:
    """Whether what no route takes may as well go without us."""
    return rules.default == "direct" and bool(rules.rules)


def _tests(rule: Rule) -> list[str]:
    """What a host must be, in JavaScript, one for each pattern."""
    found = []
    for one in rule.patterns:
        if one.network is None:
            found.append(f"shExpMatch(host, {json.dumps(one.name)})")
        elif isinstance(one.network, IPv4Network):
            address, mask = one.network.network_address, one.network.netmask
            # A name is looked up for it, as it is here.
            found.append(f'isInNet(host, "{address}", "{mask}")')
        else:
            found.append(f'(typeof isInNetEx == "function" && isInNetEx(host, "{one.network}"))')
    return found
