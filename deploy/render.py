"""Renders a node's files from the topology: broker configuration, node settings, and the secrets it needs, made once and kept."""

from __future__ import annotations

import secrets
from pathlib import Path

import orjson

from deploy import issuer
from deploy.topology import Spec, Topology
from shared.errors import Invalid
from shared.settings import Broker, Node

ROOT = Path(__file__).resolve().parent


def render(topology: Topology, code: str, base: Path) -> Path:
    """Write the files of node `code` under `base/code` and answer the path of its node.json."""
    folder = base / code
    # Nobody but its owner reads what citizens wrote, nor the passwords.
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    spec = topology.node(code)
    _put(folder / "broker.conf", broker(topology, spec, base).encode())
    pack = topology.pack if topology.pack.is_absolute() else ROOT / topology.pack
    node = Node(
        code=code, names=spec.names, zone=spec.zone, calendar=spec.calendar, path=topology.path(code),
        above=topology.above(code), subtree=topology.subtree(code), database_url=spec.database_url or f"sqlite:///{folder}/node.db",
        broker=Broker(
            url=f"nats://127.0.0.1:{spec.broker_port}", user="node", password=secret(base, code, "node"),
            monitor=f"http://127.0.0.1:{spec.monitor_port}",
        ),
        port=spec.port, ports=spec.service_ports,
        pack=pack, secrets=folder / "secrets", objects=spec.objects or folder / "objects", demo=topology.demo,
        mail=spec.mail, outgoing=spec.outgoing,
    )  # fmt: skip
    if topology.demo:
        issuer.trust(base, folder / "secrets")
    (folder / "port").write_text(f"PORT={spec.port}\n")
    path = folder / "node.json"
    written = orjson.dumps(node.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
    if not path.exists() or path.read_bytes() != written:
        _put(path, written)
    return path


def _put(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads, in one step: a running process may read it at any moment, we may end at any."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_bytes(content)
    fresh.replace(path)


def secret(base: Path, code: str, name: str) -> str:
    """A random password, made at the first call and then kept in a file that only its owner reads."""
    path = base / code / "secrets" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _put(path, secrets.token_urlsafe(24).encode())
    # An empty password is one that anybody knows.
    if not (found := path.read_text()):
        raise Invalid(f"{path} is empty; remove it, and a new one is made", field="/secrets")
    return found


def broker(topology: Topology, spec: Spec, base: Path) -> str:
    """The nats-server configuration: loopback only, one account a child, and across the accounts only what sourcing needs."""
    children = [c.code for c in topology.children(spec.code)]
    remote = ""
    if spec.parent:
        above = topology.node(spec.parent)
        login = f"leaf_{spec.code}:{secret(base, spec.code, 'leaf')}"
        where = spec.uplink or f"127.0.0.1:{above.leaf_port}"
        remote = f', remotes: [{{ url: "nats://{login}@{where}", account: NODE }}]'
    imports = [line for child in children for line in _imports(child)]
    return "\n".join(
        [
            f'server_name: "{spec.code}"',
            f'pid_file: "{base / spec.code / "broker.pid"}"',
            f'listen: "127.0.0.1:{spec.broker_port}"',
            f'http: "127.0.0.1:{spec.monitor_port}"',
            f'leafnodes {{ listen: "127.0.0.1:{spec.leaf_port}", reconnect: "1s"{remote} }}',
            f'jetstream {{ store_dir: "{base / spec.code / "jetstream"}", domain: "{spec.code}", sync_interval: always }}',
            "accounts {",
            "  NODE {",
            "    jetstream: enabled",
            f'    users: [{{ user: "node", password: "{secret(base, spec.code, "node")}" }}]',
            f"    imports: [{', '.join(imports)}]",
            "  }",
            *(_account(child, secret(base, child, "leaf")) for child in children),
            f'  SYS {{ users: [{{ user: "sys", password: "{secret(base, spec.code, "sys")}" }}] }}',
            "}",
            "system_account: SYS",
            "",
        ]
    )


def _services(child: str) -> list[str]:
    """Subjects on which a parent asks this child: sourcing, its flow control, and repair."""
    return [f"$JS.{child}.API.>", f"$JS.FC.EV_{child}.>", f"rpc.{child}.>"]


def _imports(child: str) -> list[str]:
    asked = [f'{{ service: {{ account: L_{child}, subject: "{s}" }} }}' for s in _services(child)]
    return [*asked, f'{{ stream: {{ account: L_{child}, subject: "dlv.{child}.>" }} }}']


def _account(child: str, password: str) -> str:
    """The child's own account here: it may deliver its own stream and answer, and hear only what it is asked."""
    exports = [f'{{ service: "{s}" }}' for s in _services(child)] + [f'{{ stream: "dlv.{child}.>" }}']
    may_say = f'["dlv.{child}.>", "_R_.>", "_INBOX.>", "$JS.ACK.>"]'
    may_hear = "[" + ", ".join(f'"{s}"' for s in _services(child)) + "]"
    user = f'{{ user: "leaf_{child}", password: "{password}", permissions: {{ publish: {may_say}, subscribe: {may_hear} }} }}'
    return f"  L_{child} {{ users: [{user}], exports: [{', '.join(exports)}] }}"
