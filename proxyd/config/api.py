"""
The section C{api}: where the HTTP API listens, and what opens it.
"""

from __future__ import annotations

from proxyd.config import values
from proxyd.config.api_model import Api, ApiTls
from proxyd.config.section import Section
from proxyd.config.values import BadValue

_TLS = "api.tls: {certificate: C, key: K}"


def read_api(root: Section) -> Api | None:
    """The section C{api}; None where it is absent: then nothing is opened."""
    section = root.section("api")
    if section is None:
        return None
    listen = section.listeners("listen") or ()
    tls, disabled = _read_tls(section)
    for place in listen:
        kind = place.text.partition(":")[0]
        if place.kind == "endpoint" and kind in ("ssl", "tls", "haproxy", "stdio"):
            section.wrong("listen", f"{values.shown(place.text)}: name the port, and {_TLS}")
        elif not values.is_local(place) and not disabled and not section.has("tls"):
            section.wrong(
                "listen",
                f"{values.shown(place.text)} may be reached from elsewhere, where the admin token "
                f"would go in clear: say {_TLS}, or tls: {{mode: disable}} if that is meant",
            )
        elif not values.is_local(place) and disabled:
            section.warn(
                "tls",
                f"is disabled: whoever listens in on {values.shown(place.text)} gets the admin "
                "token",
            )
    found = Api(
        listen=listen,
        tls=tls,
        socket=section.value("socket", lambda text: _socket(text, section)),
        admin_token=section.secret("admin_token"),
        metrics_token=section.secret("metrics_token"),
        hosts=section.each("hosts", values.host) or (),
    )
    section.close()
    return found


def _read_tls(api: Section) -> tuple[ApiTls | None, bool]:
    """The certificate, and whether TLS is disabled in so many words."""
    section = api.section("tls")
    if section is None:
        return None, False
    mode = section.word("mode", ("disable", "require"), "require")
    certificate, key = section.file("certificate"), section.file("key")
    section.close()
    named = section.has("certificate") or section.has("key")
    if mode == "disable":
        if named:
            section.wrong("mode", "disable contradicts the certificate beside it")
        return None, True
    if certificate is None or key is None:
        for name in ("certificate", "key"):
            if not section.has(name):
                section.wrong(name, "is missing")
        return None, False
    return ApiTls(certificate, key), False


def _socket(text: str, section: Section) -> str:
    """The path of the UNIX socket, whole."""
    path = values.expanded(text.removeprefix("unix:"), section.environment)
    if not path.startswith("/"):
        raise BadValue("must be a whole path, /run/proxyd/api.sock")
    return values.listener(f"unix:{path}", section.environment).path
