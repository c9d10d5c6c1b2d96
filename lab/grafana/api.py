"""One Grafana, reached over its HTTP API, with everything that can go wrong said in a line that helps.

The requests are grafana-client's; what is added here is where Grafana is, who we are, and what an error means.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any, Self, cast
from urllib.parse import SplitResult, urlsplit

from grafana_client import GrafanaApi  # type: ignore[import-untyped]
from grafana_client.client import GrafanaException  # type: ignore[import-untyped]

from lab import settings
from lab.settings import SettingError

Json = dict[str, Any]
Credential = str | tuple[str, str] | None
"""A service account's token, or a user's name and password; None where Grafana lets anonymous users in."""

TIMEOUT_SECONDS = 10.0
OLDEST_MAJOR = 9
"""The first Grafana in which a data source is updated by its uid."""

ANNOTATOR = "the Editor role, or the permission annotations:create"
CREDENTIALS = (
    "set LAB_GRAFANA_TOKEN to a service account's token (in Grafana: Administration → Users and access → "
    "Service accounts), or LAB_GRAFANA_USER to name:password"
)
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, PRECONDITION_FAILED = 401, 403, 404, 409, 412


class GrafanaError(Exception):
    """Grafana cannot be used; the text says why, and what to do."""


class RefusedError(GrafanaError):
    """Grafana works, but does not do this one thing. `status` is HTTP's."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Grafana:
    """One Grafana. To be used by one thread at a time."""

    def __init__(self, url: str, credential: Credential = None, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Connects to nothing yet. Raises SettingError if `url` is none."""
        parts = root_url(url, "LAB_GRAFANA_URL", settings.GRAFANA.url)
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self.api = GrafanaApi(
            credential,
            protocol=parts.scheme,
            host=parts.netloc,
            url_path_prefix=f"{parts.path.strip('/')}/".lstrip("/"),
            timeout=timeout_seconds,
        )
        session = self.api.client.s
        # A redirect would turn a POST into a GET, and may lead to a login page: say so instead of following it.
        session.max_redirects = 0
        session.trust_env = not _is_beyond_proxies(parts)

    @classmethod
    def from_settings(
        cls,
        url: str | None = None,
        token: str | None = None,
        user: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Self:
        """The Grafana that the arguments, or else the `LAB_GRAFANA_…` variables speak of, or else the stack's own.

        `user` is `name:password`. Raises SettingError.
        """
        if not (token or user):
            token, user = settings.variable("LAB_GRAFANA_TOKEN"), settings.variable("LAB_GRAFANA_USER")
        return cls(url or settings.GRAFANA.found_at, _credential(token, user), timeout_seconds)

    def check(self) -> None:
        """Raise GrafanaError unless a Grafana that is not too old answers."""
        try:
            health = self.call(self.api.client.GET, "/health")
        except RefusedError as error:
            raise self._not_grafana(f"/api/health answers {error.status}") from error
        if not isinstance(health, dict) or "database" not in health:
            raise self._not_grafana("/api/health is not as Grafana's")
        version = str(health.get("version", ""))  # a Grafana that hides its version leaves it out
        major = version.partition(".")[0]
        if major.isdecimal() and int(major) < OLDEST_MAJOR:
            raise GrafanaError(f"Grafana {version} at {self.url} is too old: {OLDEST_MAJOR}.0 or newer is needed")

    def annotate(
        self,
        text: str,
        tags: Sequence[str] = (),
        start: float | None = None,
        end: float | None = None,
        *,
        dashboard: str | None = None,
        panel: int | None = None,
    ) -> int:
        """Mark the moment `start`, or the region from `start` to `end`, and return the annotation's id.

        Times are seconds since the epoch; without `start` Grafana takes its own now. With `dashboard` (a uid) and
        `panel` only these show it; else every dashboard that asks for one of its tags does. Raises GrafanaError.
        """
        self.check()
        answer = self.call(
            self.api.annotations.add_annotation,
            # Older Grafanas know only the id, and ignore a dashboardUID: the mark would land on every dashboard.
            dashboard_id=None if dashboard is None else self._dashboard_id(dashboard),
            dashboard_uid=dashboard,
            panel_id=panel,
            time_from=_milliseconds(start),
            time_to=_milliseconds(end),
            tags=list(tags),
            text=text,
            needs=ANNOTATOR,
        )
        if not isinstance(answer, dict) or not isinstance(answer.get("id"), int):
            raise self._not_grafana("it gives an annotation no id")
        return cast("int", answer["id"])

    def _dashboard_id(self, uid: str) -> int | None:
        found = self.find(self.api.dashboard.get_dashboard, uid)
        if found is None:
            raise GrafanaError(
                f"no dashboard at {self.url} has the uid {uid!r}: it is in the dashboard's URL, after /d/"
            )
        return cast("int | None", found["dashboard"].get("id"))

    def find(self, get: Callable[[str], Any], uid: str) -> Json | None:
        """Return what `get` says about `uid`; None if there is nothing, or nothing that we may see.

        Grafana 13 answers an Editor with 403 for a folder that does not exist. Whoever gets None can only try to
        create, and Grafana refuses that if the thing exists after all.
        """
        try:
            found = self.call(get, uid)
        except RefusedError as error:
            if error.status in {FORBIDDEN, NOT_FOUND}:
                return None
            raise
        if not isinstance(found, dict):
            raise self._not_grafana(f"it knows {uid!r} in a form of its own")
        return found

    def call(self, method: Callable[..., Any], *arguments: Any, needs: str = "", **named: Any) -> Any:
        """The answer of one of grafana-client's methods. `needs` says who may do this. Raises GrafanaError."""
        try:
            return method(*arguments, **named)
        except GrafanaException as error:
            raise self._refused(error.status_code, error.response, needs) from error
        except OSError as error:  # requests' own exceptions are OSErrors
            raise self._unreachable(error) from error

    def _refused(self, status: int, answer: object, needs: str) -> GrafanaError:
        said = str(answer.get("message", "")) if isinstance(answer, dict) else ""
        text = f"Grafana says: {said or 'nothing'} (status {status})"
        if status == UNAUTHORIZED:
            return GrafanaError(f"{self.url} does not let us in: {CREDENTIALS}. {text}")
        if status >= 500:
            return GrafanaError(f"{self.url} has a fault of its own, and its log says which. {text}")
        if status == FORBIDDEN and needs:
            return RefusedError(f"needs {needs}: set LAB_GRAFANA_TOKEN to a token that has it. {text}", status)
        if status in {CONFLICT, PRECONDITION_FAILED}:
            return RefusedError(f"{text}: run it again, or rename in Grafana what is in the way", status)
        return RefusedError(text, status)

    def _unreachable(self, error: OSError) -> GrafanaError:
        redirect = getattr(getattr(error, "response", None), "headers", {}).get("Location")
        if redirect:
            return GrafanaError(f"{self.url} leads to {redirect}: set LAB_GRAFANA_URL to Grafana's own root URL")
        match cause := _root(error):
            case ssl.SSLError():
                why = getattr(cause, "verify_message", "") or cause.reason or "no TLS"
                return GrafanaError(
                    f"no trusted TLS connection to {self.url} ({why}): is it http:// there? "
                    "A certificate of your own goes into REQUESTS_CA_BUNDLE=file.pem"
                )
            case TimeoutError():
                return GrafanaError(f"{self.url} does not answer in time: is it Grafana, and is a firewall in between?")
            case json.JSONDecodeError():
                return self._not_grafana("it answers with something else than JSON")
        why = getattr(cause, "strerror", None) or str(cause)
        return GrafanaError(f"no Grafana can be reached at {self.url} ({why}): start it, or set LAB_GRAFANA_URL")

    def _not_grafana(self, why: str) -> GrafanaError:
        return GrafanaError(f"what answers at {self.url} is not Grafana ({why}): set LAB_GRAFANA_URL to its root URL")


def root_url(url: str, variable: str, example: str) -> SplitResult:
    """The URL taken apart. Raises SettingError, without repeating a password."""
    try:
        parts = urlsplit(url)
        if parts.username is not None:
            raise SettingError(f"{variable}: leave name and password out (LAB_GRAFANA_USER takes Grafana's)")
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and not parts.query:
            return parts
    except ValueError:  # brackets or a port that cannot be
        pass
    raise SettingError(f"{variable}={url!r}: give a root URL such as {example}")


def _credential(token: str | None, user: str | None) -> Credential:
    """A token wins over a user. Raises SettingError."""
    if token:
        # A line break from a file is dropped; what HTTP's header cannot hold is no token of Grafana's.
        if not re.fullmatch(r"[!-~]+", token.strip()):
            raise SettingError("LAB_GRAFANA_TOKEN is not a token: paste it again, without quotes")
        return token.strip()
    if user:
        name, colon, password = user.partition(":")
        if not (name and colon):
            raise SettingError("LAB_GRAFANA_USER: give name:password")
        return name, password
    return None


def _is_beyond_proxies(parts: SplitResult) -> bool:
    """Return whether http_proxy cannot reach it: our loopback, or a name without a domain, as Compose gives."""
    host = parts.hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or (parts.scheme == "http" and "." not in host)


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _root(error: BaseException) -> BaseException:
    """Return the first cause, below the wrappers of requests and urllib3."""
    while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = cause
    return error
