"""Exec plugins, asked as client-go asks them: small shell scripts here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.helpers_apiserver import ApiServer, Authority, Cluster

from kts.errors import SetupError
from kts.k8s.cluster import credentials, execplugin
from kts.k8s.cluster.api import Unavailable
from kts.k8s.cluster.credentials import Credentials, Unrenewed
from kts.k8s.cluster.execplugin import Credential
from kts.k8s.cluster.identity import Plugin, User

V1, V1BETA1 = "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"


def answer(version: str = V1, **status: Any) -> str:
    """What a plugin prints."""
    return json.dumps({"kind": "ExecCredential", "apiVersion": version, "status": status})


class Script:
    """A plugin: notes what it is asked, its arguments and $MINE, and prints the file ``answer``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "bin" / "kts-plugin"
        self.path.parent.mkdir()
        self.write('echo "$KUBERNETES_EXEC_INFO" >> asked; echo "$MINE|$*|$(cat)" >> told; cat answer')

    def write(self, body: str) -> None:
        """Another program."""
        self.path.write_text(f"#!/bin/sh\ncd '{self._folder}'\n{body}\n")
        self.path.chmod(0o755)

    def gives(self, text: str) -> None:
        """What it prints from now on."""
        (self._folder / "answer").write_text(text)

    def user(self, **changes: Any) -> dict[str, Any]:
        """The kubeconfig's user."""
        fields = {"apiVersion": V1, "interactiveMode": "Never", "command": str(self.path), **changes}
        return {"exec": {key: value for key, value in fields.items() if value is not None}}

    @property
    def asked(self) -> list[dict[str, Any]]:
        """KUBERNETES_EXEC_INFO of each time."""
        file = self._folder / "asked"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def told(self) -> list[str]:
        """``$MINE|arguments|standard input`` of each time."""
        return (self._folder / "told").read_text().splitlines()


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """A plugin in a folder beside the kubeconfig."""
    return Script(tmp_path)


@pytest.mark.parametrize(
    ("version", "mode"), [(V1, "Never"), (V1, "IfAvailable"), (V1BETA1, None), (V1BETA1, "IfAvailable")]
)
def test_a_plugin_is_asked_as_by_client_go(
    cluster: Cluster, server: ApiServer, script: Script, version: str, mode: str | None
) -> None:
    """Else plugins of managed clusters would not know what they are asked for, or wait for somebody to type."""
    script.gives(answer(version, token="abc\n", expirationTimestamp="2999-01-01T00:00:00Z"))
    own = {"env": [{"name": "MINE", "value": "a b"}], "args": ["get-token", "--cluster=x y"]}
    api = cluster.connected(script.user(apiVersion=version, interactiveMode=mode, **own))
    assert not script.asked  # not before there is a request
    api.version()
    api.version()
    assert [one.who for one in server.asked] == ["Bearer abc"] * 2
    assert script.asked == [{"kind": "ExecCredential", "apiVersion": version, "spec": {"interactive": False}}]
    assert script.told == ["a b|get-token --cluster=x y|"]


def test_a_plugin_is_told_of_the_cluster_if_it_wants_to_be(
    cluster: Cluster, script: Script, authority: Authority
) -> None:
    """Else plugins that are shared by several clusters would give the credentials of another one."""
    script.gives(answer(token="t"))
    own = [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": ["x"]}}, {"name": "minikube"}]
    api = cluster.connected(script.user(provideClusterInfo=True), extensions=own, tls_server_name="api.inside.example")
    api.version()
    told = script.asked[0]["spec"]["cluster"]
    assert b64decode(told.pop("certificate-authority-data")).strip() == authority.ca.read_bytes().strip()
    assert told == {
        "server": api.server,
        "tls-server-name": "api.inside.example",
        "config": {"audience": ["x"]},
    }


def test_what_a_plugin_cannot_be_told_is_one_line(cluster: Cluster, script: Script) -> None:
    """Else it would be an internal error."""
    own = [{"name": "client.authentication.k8s.io/exec", "extension": "\ud800"}]
    with pytest.raises(SetupError, match="cannot be told of the cluster by its extensions"):
        cluster.connected(script.user(provideClusterInfo=True), extensions=own).version()


def test_a_command_is_sought_as_by_client_go(
    cluster: Cluster, server: ApiServer, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a plugin beside the kubeconfig would not be there, or a file of the current folder be run instead."""
    script.gives(answer(token="t"))
    cluster.connected(script.user(command="./bin/kts-plugin")).version()
    monkeypatch.setenv("PATH", f"{script.path.parent}:{os.environ['PATH']}")
    elsewhere = [{"name": "PATH", "value": "/usr/bin:/bin"}]  # is for what the plugin runs
    cluster.connected(script.user(command="kts-plugin", env=elsewhere)).version()
    assert [one.who for one in server.asked] == ["Bearer t"] * 2
    monkeypatch.chdir(script.path.parent)
    monkeypatch.setenv("PATH", ":.:/usr/bin:/bin")
    with pytest.raises(SetupError, match="kts-plugin is not on the PATH"):
        cluster.connected(script.user(command="kts-plugin")).version()


def test_a_plugin_may_answer_in_yaml(cluster: Cluster, server: ApiServer, script: Script) -> None:
    """Else a script that works with kubectl would not."""
    script.gives(
        f"kind: ExecCredential\napiVersion: {V1}\nstatus:\n  token: abc\n  expirationTimestamp: 2999-01-01T00:00:00Z\n"
    )
    cluster.connected(script.user()).version()
    assert server.asked[0].who == "Bearer abc"


ANSWERS = {
    "nothing": ("", "answered '', no ExecCredential"),
    "words": ("Please log in: https://x\n", "no ExecCredential"),
    "a list": ("[1]", r"answered '\[1\]', no ExecCredential"),
    "binary": ("\x00\x1b[2J", "no ExecCredential"),
    "another kind": (answer(token="t").replace("ExecCredential", "Token"), "no ExecCredential"),
    "another version": (answer(V1BETA1, token="t"), f"answered as '{V1BETA1}', and is asked as {V1}"),
    "no status": (json.dumps({"kind": "ExecCredential", "apiVersion": V1}), "gave no status"),
    "an empty status": (answer(), "neither a token nor a certificate"),
    "an empty token": (answer(token=""), "neither a token nor a certificate"),
    "a token as a list": (answer(token=["t"]), "status.token that is no text"),
    "a token of two lines": (answer(token="a\nb"), "a token that cannot be sent"),
    "half a pair": (answer(clientCertificateData="x"), "without its key"),
    "no pair": (answer(clientCertificateData="x", clientKeyData="y"), "the client certificate cannot be used"),
    "a day": (answer(token="t", expirationTimestamp="tomorrow"), "'tomorrow', no time with a zone"),
    "a time without a zone": (answer(token="t", expirationTimestamp="2999-01-01T00:00:00"), "no time with a zone"),
    "a number for a time": (answer(token="t", expirationTimestamp=1), "expirationTimestamp that is no text"),
}


@pytest.mark.parametrize(("given", "why"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_holds_no_credentials_is_one_line(
    cluster: Cluster, server: ApiServer, script: Script, given: str, why: str
) -> None:
    """Else kts would act as nobody, or show a traceback."""
    script.gives(given)
    with pytest.raises(SetupError, match=why) as error:
        cluster.connected(script.user()).version()
    assert error.value.what.isprintable()
    assert error.value.remedy
    assert not isinstance(error.value, Unavailable)
    assert not server.asked


PROGRAMS = {
    "an exit code": ("echo 'session\nexpired \033[31m' >&2; exit 3", r"failed with exit code 3: session expired \\x1b"),
    "a signal": ("kill -9 $$", "failed with signal 9$"),
    "a silent one": ("exit 1", "failed with exit code 1$"),
    "much to say": ("yes complaint | head -c 100000 >&2; exit 1", r"exit code 1: \.\.\..{290,300}$"),
    "a word beside nothing": ("echo 'log in first' >&2", "no ExecCredential: log in first"),
    "one that waits for a login": ("echo 'open https://x' >&2; sleep 60", r"within 0\.3 s: open https://x$"),
    "one that hangs": ("sleep 60", r"did not end within 0\.3 s"),
    "one whose child hangs": ("sleep 60 & exit 0", r"did not end within 0\.3 s"),
    "one that hangs silently": ("exec >&- 2>&-; sleep 60", r"did not end within 0\.3 s"),
    "one without an end": ("yes", "wrote more than 1 MiB"),
}


@pytest.mark.parametrize(("body", "why"), PROGRAMS.values(), ids=PROGRAMS)
def test_a_plugin_that_fails_says_how(
    cluster: Cluster, script: Script, monkeypatch: pytest.MonkeyPatch, body: str, why: str
) -> None:
    """Else the user would wait for ever, or not learn that it is the login that ran out."""
    monkeypatch.setattr(execplugin, "LIMIT_S", 0.3 if "60" in body else 30.0)
    script.write(body)
    with pytest.raises(SetupError, match=why) as error:
        cluster.connected(script.user()).version()
    assert str(script.path) in error.value.what
    assert error.value.what.isprintable()


def test_what_a_slow_plugin_tells_is_shown_while_it_waits(
    cluster: Cluster, script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else nobody would see the address at which to log in before it is too late."""
    monkeypatch.setattr(execplugin, "SILENT_S", 0.0)
    script.gives(answer(token="t"))
    script.write("printf 'open\\nhttps://x \\033[2J' >&2; cat answer")
    cluster.connected(script.user()).version()
    assert capsys.readouterr().err == "open\nhttps://x \\x1b[2J"
    monkeypatch.setattr(execplugin, "SILENT_S", 60.0)
    cluster.connected(script.user()).version()
    assert capsys.readouterr().err == ""


def test_a_plugin_that_is_not_there_says_how_it_is_installed(cluster: Cluster, script: Script) -> None:
    """Else the user would have to look for what the kubeconfig's author has written down."""
    hint = {"installHint": "Install it:\n\n  apt install \033[1mkts-plugin\033[0m"}
    script.path.chmod(0o644)
    for command, why in (
        ("kts-no-such-plugin", "kts-no-such-plugin is not on the PATH"),
        ("./none", "none cannot be run: No such file"),
        (str(script.path), "cannot be run: Permission denied"),
        (str(script.path.parent), "cannot be run: Permission denied"),
    ):
        with pytest.raises(SetupError, match=why) as error:
            cluster.connected(script.user(command=command, **hint)).version()
        assert "apt install \\x1b[1mkts-plugin" in error.value.remedy
        assert (error.value.what + error.value.remedy).isprintable()


def test_a_plugin_that_must_ask_is_refused_without_a_terminal(cluster: Cluster, script: Script) -> None:
    """Else it would wait for ever in CI."""
    with pytest.raises(SetupError, match=r"interactiveMode: Always.* standard input is no terminal"):
        cluster.connected(script.user(interactiveMode="Always")).version()


def test_a_plugin_gets_the_terminal_if_it_wants_it(script: Script) -> None:
    """Else nobody could answer its question, or it would take what is typed for somebody else."""
    script.write(f"""read line; printf '{answer(token="T").replace("T", "%s|")}' "$line"; echo "asked for $line" >&2""")
    program = (
        "from kts.k8s.cluster.execplugin import ask, Plugin\n"
        "for mode in ('Never', 'Always', 'IfAvailable'):\n"
        f"    print(mode, ask(Plugin({str(script.path)!r}, {V1!r}, interactive=mode)).token)"
    )
    leader, follower = os.openpty()
    try:
        os.write(leader, b"one\ntwo\n")
        done = subprocess.run(
            [sys.executable, "-c", program], stdin=follower, capture_output=True, text=True, timeout=180, check=True
        )
    finally:
        os.close(leader)
        os.close(follower)
    assert done.stdout.splitlines() == ["Never |", "Always one|", "IfAvailable two|"]
    assert done.stderr.splitlines() == ["asked for one", "asked for two"]


def test_a_plugins_certificate_is_shown_and_replaced_when_it_expires(
    cluster: Cluster, server: ApiServer, script: Script, authority: Authority
) -> None:
    """Else clusters that know people by short-lived certificates would refuse a long run."""

    def given(name: str, expires: str) -> str:
        certificate, key = (path.read_text() for path in authority.signed(name))
        return answer(clientCertificateData=certificate, clientKeyData=key, expirationTimestamp=expires)

    script.gives(given("ann", "2999-01-01T00:00:00+02:00"))
    api = cluster.connected(script.user())
    api.version()
    script.gives(given("ben", "2999-01-01T00:00:00Z"))
    api.version()
    server.refused.add("ann")
    api.version()
    assert [one.client for one in server.asked] == ["ann", "ann", "ann", "ben"]
    assert len(script.asked) == 2


def test_a_plugin_is_asked_once_more_when_its_token_is_refused(
    cluster: Cluster, server: ApiServer, script: Script
) -> None:
    """Else a revoked token would end a run that a new one keeps going, or each request open a browser."""
    script.gives(answer(token="one"))
    api = cluster.connected(script.user())
    api.version()
    server.refused.add("Bearer one")
    script.gives(answer(token="two"))
    api.version()
    assert [one.who for one in server.asked] == ["Bearer one", "Bearer one", "Bearer two"]
    server.refused.add("Bearer two")
    for _ in range(3):
        with pytest.raises(SetupError, match="does not know you"):
            api.version()
    assert len(script.asked) == 2


def test_a_plugin_that_fails_in_the_midst_of_a_run_is_a_state_that_passes(
    cluster: Cluster, script: Script, server: ApiServer
) -> None:
    """Else a network that is away for a minute would end a run of hours."""
    script.gives(answer(token="one", expirationTimestamp="2001-01-01T00:00:00Z"))
    api = cluster.connected(script.user())
    api.version()
    working = script.path.read_text()
    script.path.write_text("#!/bin/sh\necho no network >&2; exit 255\n")
    with pytest.raises(Unavailable, match="exit code 255: no network"):
        api.version()
    script.path.write_text(working)
    script.gives(answer(token="two"))
    api.version()
    assert [one.who for one in server.asked] == ["Bearer one", "Bearer two"]


class Clock:
    """Answers a, b, c, ...; each for an hour. ``now``: seconds since the start."""

    def __init__(self) -> None:
        self.now, self.asked, self.fails = 0.0, 0, False
        self._start = datetime(2026, 1, 1, tzinfo=UTC)
        plugin = Plugin("x", V1)
        self.credentials = Credentials(User(plugin=plugin), self.ask, self.time, lambda: self.now)

    def time(self) -> datetime:
        return self._start + timedelta(seconds=self.now)

    def ask(self, _: Plugin) -> Credential:
        self.asked += 1
        if self.fails:
            raise SetupError("no network", "wait")
        return Credential("abcdefgh"[self.asked - 1], expires=self.time() + timedelta(hours=1))

    def at(self, now: float, refused: Credential | None = None) -> Credential:
        self.now = now
        return self.credentials.current(refused)


def test_credentials_are_kept_until_they_expire() -> None:
    """Else each request would start a process, or one be sent with a token that does not count any more."""
    clock = Clock()
    assert [clock.at(second).token for second in (0, 3599, 3600, 3601, 7201, 7202)] == list("aaabbc")
    clock.fails = True
    assert clock.at(7300).token == "c"
    for second in (20_000, 20_001):
        with pytest.raises(Unrenewed, match="no network"):
            clock.at(second)
    clock.fails = False
    assert clock.at(20_002).token == "f"


def test_a_refusal_asks_the_plugin_now_and_then() -> None:
    """Else an account that was closed would start a process, or a browser, with every request of a run."""
    clock = Clock()
    first = clock.at(0)
    second = clock.at(1, refused=first)
    assert clock.at(2, refused=first) == second  # another thread has renewed it
    assert clock.at(3, refused=second) == second
    assert clock.at(1 + credentials.REFUSED_AGAIN_S, refused=second).token == "c"
