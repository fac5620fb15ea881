"""Apps as a browser has them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import requests


class Server(requests.adapters.HTTPAdapter):
    """Asks one address, whatever name a URL has."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def get_connection_with_tls_context(self, request, *_args, **_options):
        request.headers["Host"] = urlsplit(request.url).netloc
        return self.poolmanager.connection_from_host(self._address)


class Site(requests.Session):
    """An app as a browser has it, which keeps its cookies. An answer of 400 and more is an error."""

    def __init__(self, app: str, address: str) -> None:
        super().__init__()
        self.trust_env = False  # no proxy
        self.mount("http://", Server(address))
        self._root = f"http://{app}.example.lan"

    def request(self, method, url, **options):
        answer = super().request(method, self._root + url, timeout=60, **options)
        answer.raise_for_status()
        return answer

    def form(self, url: str, fields: dict[str, str], to: str = "") -> requests.Response:
        """Fill in the form of a page, with what that guards it by, and send it to the page or somewhere else."""
        guard = re.search(r'name="?csrf_token"?[^>]*value="?([^" >]+)', self.get(url).text)
        return self.post(to or url, data={**fields, **({"csrf_token": guard[1]} if guard else {})})
