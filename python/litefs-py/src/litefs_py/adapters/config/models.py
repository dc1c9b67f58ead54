"""The daemon's configuration. Made of `litefs-py config schema` by tools/settings.py; do not edit."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """An unknown key is an error, as it is to the daemon."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


class Api(Section):
    """Health checks, metrics and administration over HTTP."""

    expose_metrics: bool = Field(
        default=False, description="Whether `/metrics` answers without a token off loopback."
    )
    listen: str = Field(
        default="127.0.0.1:8008",
        description="Address and port to listen on. Off loopback, only the health endpoints answer without a token.",
    )
    socket: str = Field(
        default="/run/litefs-py/api.sock",
        description="Unix socket for the command line; needs no token, mode 0660.",
    )
    socket_group: str | None = Field(
        default=None,
        description="Group of the Unix socket: a group's name or number. Without it, the node's own.",
    )
    token_file: str | None = Field(
        default=None,
        description="File that holds the bearer token. Without it, administration is by the Unix socket only.",
    )


class Litefs(Section):
    """LiteFS, where it is the engine."""

    binary: str | None = Field(
        default=None,
        description="The LiteFS program, version 0.5. Without it: the file `litefs` beside this program, else the one on PATH.",
    )
    compress: bool = Field(default=True, description="Whether it compresses its transaction files.")
    data_dir: str | None = Field(
        default=None,
        description="Folder of LiteFS's own data; the one of a LiteFS that ran here before can be named. Without it: `litefs` in `data_dir`.",
    )
    exec: list[str] = Field(
        default_factory=list,
        description="A program, with its arguments, that is started when the node is ready, and stopped before LiteFS. It gets the signals that the node gets; when it ends, the node ends with its exit code.",
    )
    port: Annotated[int, Field(ge=0)] = Field(
        default=20202,
        description="Port of LiteFS's HTTP, on loopback alone: it knows no authentication.",
    )
    reconnect_delay: Annotated[str, Field(pattern="^[0-9]+ ?(us|ms|s|m|h)$")] = Field(
        default="100ms",
        description="How often LiteFS looks for a primary while it has none. A duration.",
    )
    retention: Annotated[str, Field(pattern="^[0-9]+ ?(us|ms|s|m|h)$")] = Field(
        default="10m",
        description="How long LiteFS keeps its transaction files; a node that was away for longer gets whole databases. A duration.",
    )
    retention_monitor_interval: Annotated[str, Field(pattern="^[0-9]+ ?(us|ms|s|m|h)$")] = Field(
        default="1m", description="How often it looks for transaction files to remove. A duration."
    )
    snapshot_timeout: Annotated[str, Field(pattern="^[0-9]+ ?(us|ms|s|m|h)$")] = Field(
        default="0s",
        description="How long one whole database may take to be sent. A duration; `0s`: as long as `retention`.",
    )
    strict_verify: bool = Field(
        default=False,
        description="Whether it checks the whole database after each transaction. For tests: very slow.",
    )
    trace: str | None = Field(
        default=None,
        description="File of LiteFS's trace of every operation. Without it there is none.",
    )
    ttl: Annotated[str, Field(pattern="^[0-9]+ ?(us|ms|s|m|h)$")] = Field(
        default="3s",
        description="How long a primary may be silent before its lease can go to another node. A duration, from 1s to 1m.",
    )


class Log(Section):
    """What the node says about itself."""

    format: Literal["auto", "text", "json"] = Field(
        default="auto", description="Where they go, and how."
    )
    level: Literal["error", "warn", "info", "debug", "trace"] = Field(
        default="info", description="The least important messages that are written."
    )


class Member(Section):
    """A member of the cluster."""

    address: str = Field(
        description="Where its mesh is reached by the other nodes: `host:port`, or `[IPv6]:port`."
    )
    id: Annotated[int, Field(ge=0)] = Field(description="The member's number, from 1.")
    name: str = Field(description="The member's name, as in its certificate.")


class MeshTls(Section):
    """The certificates."""

    ca: str = Field(
        default="/etc/litefs-py/tls/ca.crt", description="Certificate of the cluster's CA, PEM."
    )
    ca_key: str | None = Field(
        default=None,
        description="The CA's private key, PEM. A leader that finds it here gives it to the cluster, once: then nodes can join by token, and certificates renew by themselves. The file is of no use afterwards; keep it in a safe place, not here.",
    )
    cert: str = Field(
        default="/etc/litefs-py/tls/node.crt", description="This node's certificate, PEM."
    )
    key: str = Field(
        default="/etc/litefs-py/tls/node.key",
        description="This node's private key, PEM. Readable by the node alone.",
    )
    validity: Annotated[str, Field(pattern="^[0-9]+ ?(us|ms|s|m|h)$")] = Field(
        default="2160h",
        description="How long certificates are valid that the cluster issues; each node asks for another when less than a third of it is left. A duration.",
    )


class Mesh(Section):
    """How the nodes talk to each other."""

    listen: str = Field(
        default="0.0.0.0:4321",
        description="Address and port to listen on. Only nodes with a certificate of this cluster get in.",
    )
    tls: MeshTls = Field(default_factory=MeshTls, description="The certificates.")


class Mount(Section):
    """Where applications find the databases."""

    allow_other: bool = Field(
        default=True,
        description="Whether users other than the one that runs the node may use the mount.",
    )
    group: str = Field(default="root", description="Group of the files: a group's name or number.")
    immutable: Literal["auto", "off"] = Field(
        default="auto",
        description="Whether the bare mount point is made immutable (`chattr +i`), so that no program makes a database of its own in it while nothing is mounted: `auto` does so as root, on file systems that can. To remove the folder some day: `chattr -i` first.",
    )
    mode: Annotated[str, Field(pattern="^(0o)?0?[0-7]{3}$")] = Field(
        default="0660",
        description="Mode of the database files, in octal. The folder has the same, with search permission where there is read permission.",
    )
    owner: str = Field(default="root", description="Owner of the files: a user's name or number.")
    passthrough: Literal["auto", "off"] = Field(
        default="auto",
        description="Whether the kernel may read shared memory files by itself (FUSE passthrough, Linux 6.9 and later): `auto` uses it where it works.",
    )
    path: str = Field(
        default="/litefs", description="The mount point. Absolute; it is made when it is missing."
    )


class Node(Section):
    """Which member this node is."""

    id: Annotated[int, Field(ge=0)] = Field(
        description="The node's number, from 1. Never used again for another node."
    )
    name: str = Field(
        description="The node's name: lower-case letters, digits and hyphens, at most 63."
    )


class Raft(Section):
    """Heartbeats, elections and the replicated log."""

    election_timeout_max: Annotated[str, Field(pattern="^[0-9]+ ?(us|ms|s|m|h)$")] = Field(
        default="300ms",
        description="Longest time without a leader before a node campaigns. A duration.",
    )
    election_timeout_min: Annotated[str, Field(pattern="^[0-9]+ ?(us|ms|s|m|h)$")] = Field(
        default="150ms",
        description="Shortest time without a leader before a node campaigns. A duration, at least twice `heartbeat`.",
    )
    heartbeat: Annotated[str, Field(pattern="^[0-9]+ ?(us|ms|s|m|h)$")] = Field(
        default="50ms", description="How often the leader says that it lives. A duration."
    )
    log_purge_bytes: Annotated[str, Field(pattern="^[0-9]+ ?([KMGT]i)?B?$")] = Field(
        default="64MiB",
        description="The log is purged when it is larger than this. A node that was away for longer than the log reaches back gets whole databases instead. A size.",
    )
    staged_above: Annotated[str, Field(pattern="^[0-9]+ ?([KMGT]i)?B?$")] = Field(
        default="1MiB",
        description="Transactions larger than this travel beside the log, as files. A size, at most 8MiB.",
    )


class Write(Section):
    """How long a write may wait, and for what."""

    commit_timeout: Annotated[str, Field(pattern="^[0-9]+ ?(us|ms|s|m|h)$")] = Field(
        default="15s",
        description="How long a commit waits, since the last progress, for a majority to answer before it fails with an I/O error and an open outcome. A duration.",
    )
    lock_wait: Annotated[str, Field(pattern="^[0-9]+ ?(us|ms|s|m|h)$")] = Field(
        default="50ms",
        description="How long the kernel's request for a write lock is held before the application's busy timeout takes over. A duration, at most 1s: meanwhile the process's other threads wait for that database too.",
    )
    unlink_timeout: Annotated[str, Field(pattern="^[0-9]+ ?(us|ms|s|m|h)$")] = Field(
        default="2s",
        description="The same for a commit that is the deletion of a rollback journal, which blocks every open in the mount meanwhile. A duration, at most `commit_timeout`.",
    )


class Config(Section):
    """The whole of `/etc/litefs-py/config.yml`."""

    api: Api = Field(
        default_factory=Api, description="Health checks, metrics and administration over HTTP."
    )
    bootstrap: bool = Field(
        default=False,
        description="Whether this node begins the cluster when its data folder is empty. True on one node of a new cluster; without effect once the node has data.",
    )
    cluster: str = Field(
        description="Name of the cluster: lower-case letters, digits and hyphens, at most 63. It is part of every node's certificate, so that nodes of different clusters never talk to each other."
    )
    data_dir: str = Field(
        default="/var/lib/litefs-py",
        description="Folder of everything the node keeps. Absolute; not inside the mount.",
    )
    engine: Literal["embedded", "litefs"] = Field(
        default="embedded", description="Which engine replicates."
    )
    journal: Literal["wal", "any"] = Field(
        default="wal", description="Which journal modes the applications may use."
    )
    litefs: Litefs = Field(default_factory=Litefs, description="LiteFS, where it is the engine.")
    log: Log = Field(default_factory=Log, description="What the node says about itself.")
    members: list[Member] = Field(
        description="All members of the cluster, this node included; the same list on every node."
    )
    mesh: Mesh = Field(default_factory=Mesh, description="How the nodes talk to each other.")
    mount: Mount = Field(
        default_factory=Mount, description="Where applications find the databases."
    )
    node: Node = Field(description="Which member this node is.")
    raft: Raft = Field(
        default_factory=Raft, description="Heartbeats, elections and the replicated log."
    )
    scrub_interval: Annotated[str, Field(pattern="^[0-9]+ ?(us|ms|s|m|h)$")] = Field(
        default="24h",
        description="How often the node reads all its databases, to find pages that the disk changed, and mends them with what the other nodes have. A duration; `0s`: never.",
    )
    wal_warn_bytes: Annotated[str, Field(pattern="^[0-9]+ ?([KMGT]i)?B?$")] = Field(
        default="256MiB",
        description="A warning is logged when a reader holds a database's WAL above this size. A size.",
    )
    write: Write = Field(
        default_factory=Write, description="How long a write may wait, and for what."
    )
