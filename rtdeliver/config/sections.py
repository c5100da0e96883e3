"""What can be set: one frozen section for each package, one table of the file for each section.

The docstring below a field explains it; ``etc/rtdeliver.toml`` is made of these. The annotation is
the range that a value must be in.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

YEAR_SECONDS = 365 * 86400

Seconds = Annotated[float, Meta(gt=0, le=YEAR_SECONDS)]
Count = Annotated[int, Meta(gt=0)]
Bytes = Annotated[int, Meta(gt=0)]
Rate = Annotated[float, Meta(gt=0, le=1_000_000)]
ShortSeconds = Annotated[float, Meta(gt=0, le=3600)]

SAME_HOST = "same-host"
"""Stands, among origins, for pages of the same host at any port."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Listeners(Section, frozen=True, kw_only=True):
    """Where a role listens: Twisted endpoint strings (tcp:, tls:, ssl:, unix:, systemd:)."""

    public: str = "tcp:8080"
    """rtcombined, rtfrontend: where browsers connect."""

    internal: str = ""
    """Where other nodes and operators connect; in rtcombined, producers too. Empty stands for port
    8090 of 127.0.0.1 in rtcombined, port 8081 of 127.0.0.1 in rtfrontend, and nowhere in rtlikes.
    """

    listen: str = ""
    """rtdispatcher: where producers, frontends and operators connect; empty stands for port 8090 of
    127.0.0.1. rtlikes: where browsers open the live-video app; empty stands for port 8000.
    """

    app: str = ""
    """rtcombined: where browsers open the live-video app. Empty stands for nowhere."""

    backlog: Count = 4096
    """How many connections may wait to be accepted. The kernel caps it at net.core.somaxconn."""


class Node(Section, frozen=True, kw_only=True):
    """What this process is called, and which dispatchers it talks to."""

    name: str = ""
    """rtcombined, rtfrontend: the name of this node, 1 to 64 of A-Z a-z 0-9 . _ - Connection ids
    carry it. Empty stands for the host's name and the process id.
    """

    advertise: str = ""
    """rtcombined, rtfrontend: the URL at which dispatchers reach the internal listener. Empty
    stands for the address that it listens on; it is needed where that is 0.0.0.0 or a UNIX socket.
    Example: "http://10.0.0.5:8081".
    """

    dispatchers: tuple[str, ...] = ()
    """rtfrontend: the URLs of the dispatchers to announce to; any one that answers will do.
    rtlikes: those to publish to. Example: ["http://10.0.0.2:8090", "http://10.0.0.3:8090"].
    """


class Access(Section, frozen=True, kw_only=True):
    """Who may use which listener."""

    secret_file: str = ""
    """A file with one word, which requests to internal listeners must carry as a bearer token. It
    is needed where other machines can reach an internal listener.
    """

    insecure_internal: bool = False
    """Lets other machines use internal listeners without a secret."""

    token_key_file: str = ""
    """rtcombined, rtfrontend, rtlikes: a file with the key that signs members' tokens (HS256), at
    least 32 bytes. A frontend without one takes no tokens. The live-video app without one makes its
    own, in a file beside its database.
    """

    cors_origins: tuple[str, ...] = ()
    """rtcombined, rtfrontend: origins whose pages may read the streams, such as
    "https://example.com"; "*" for any, and "same-host" for pages of the same host at any port,
    which rtcombined allows by itself when it serves the app.
    """


class Http(Section, frozen=True, kw_only=True):
    """Bounds of requests, those that are served and those that are made."""

    idle_seconds: Seconds = 60
    """How long a client may keep a connection open without a request."""

    public_body_bytes: Bytes = 1_048_576
    """The largest body of a request to a public listener."""

    internal_body_bytes: Bytes = 33_554_432
    """The largest body of a request to an internal listener. A frontend's first announcement holds
    all its topics.
    """

    request_seconds: Seconds = 5
    """How long the whole of a request to another node may take."""

    client_idle_seconds: Seconds = 30
    """How long a connection to another node is kept open without a request."""


class Pauses(Section, frozen=True, kw_only=True):
    """The pauses between attempts that fail."""

    min_seconds: Seconds = 0.1
    """The longest pause after the first failure. It doubles with each further failure; what is
    waited is drawn between half of that and all of it, so that processes do not retry in step.
    """

    max_seconds: Seconds = 3
    """Where the doubling ends."""


class Retry(Pauses, frozen=True, kw_only=True):
    """The pause after a failed request to another node."""


class Redis(Section, frozen=True, kw_only=True):
    """rtcombined, rtdispatcher: where the routing table and presence are kept."""

    urls: tuple[str, ...] = ()
    """Without any, both are in memory, which serves one dispatcher only. With several, topics and
    members are spread over them, and all dispatchers must name the same ones.
      redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss://... for TLS,
      unix://[USER:PASSWORD@]/PATH[?database=N],
      sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]]/SERVICE[/DATABASE]
    """

    ca_file: str = ""
    """For rediss: a file with the certificates of the authorities to trust, instead of the
    system's.
    """

    prefix: str = "rtdeliver:"
    """What all keys, and the channel of changes, begin with."""

    command_seconds: Seconds = 2
    """How long one command may take. The longest is a frontend's announcement of all its topics:
    about 0.6 s for 100,000 of them.
    """

    reconnect_seconds: Seconds = 1
    """The longest pause between attempts to connect."""

    grace_seconds: Seconds = 10
    """After Redis has come back, perhaps empty: how long rows from before stand for frontends that
    have not announced anew. It must be more than routing.announce_seconds and retry.max_seconds
    together.
    """

    cached_topics: Count = 100_000
    """How many rows of the routing table a dispatcher keeps in memory, so that it need not ask
    Redis for them.
    """


class Routing(Section, frozen=True, kw_only=True):
    """rtcombined, rtfrontend: how a frontend keeps its part of the routing table right."""

    announce_seconds: Seconds = 3
    """How often a frontend renews its lease and announces changed viewer counts. The first viewer
    of a topic, and the end of the last one, are announced at once.
    """

    lease_seconds: ShortSeconds = 30
    """How long a frontend's rows stand when it is not heard of."""

    confirm_seconds: Seconds = 2
    """How long a subscriber waits for a dispatcher's confirmation before it is answered 202."""


class Viewers(Section, frozen=True, kw_only=True):
    """rtcombined, rtfrontend: the browsers' streams."""

    max_connections: Annotated[int, Meta(ge=0)] = 0
    """How many streams a process holds; a further client is asked to come back later. 0 stands for
    what the limit of file descriptors allows.
    """

    topics_per_connection: Count = 100
    """How many topics one connection may watch."""

    heartbeat_seconds: Seconds = 25
    """Each stream is sent something at least this often, if only a comment, so that proxies keep it
    open and a client that is gone is noticed.
    """

    reconnect_seconds: Seconds = 3
    """How long a browser waits before it reconnects."""

    busy_reconnect_min_seconds: Seconds = 5
    """The shortest wait of a browser that was turned away because this process is full or ends."""

    busy_reconnect_max_seconds: Seconds = 30
    """The longest wait of such a browser; each one's is drawn between the two."""

    mailbox_bytes: Bytes = 1_048_576
    """How much of one topic is kept for viewers who have not been sent it yet, once for all of
    them.
    """

    mailbox_events: Count = 10_000
    """How many events of one topic are kept for them."""

    overflow: Literal["drop_oldest", "close"] = "drop_oldest"
    """What happens beyond that: "drop_oldest" drops the oldest events and sends a gap frame to each
    viewer who missed some, "close" closes the streams of these viewers.
    """

    stall_seconds: Seconds = 30
    """A viewer that reads nothing for this long is disconnected."""

    send_bytes: Bytes = 65_536
    """How much one turn hands to the kernel for one viewer."""

    recent_events: Count = 50_000
    """How many delivered events are remembered at least, to drop repeats."""

    recent_seconds: Seconds = 60
    """How long they are remembered."""


class Sockets(Section, frozen=True, kw_only=True):
    """rtcombined, rtfrontend: what the kernel does for each stream."""

    send_buffer_bytes: Annotated[int, Meta(ge=0)] = 131_072
    """The kernel's send buffer, which it doubles for its bookkeeping; 0 lets it grow to some
    megabytes by itself. See socket(7), SO_SNDBUF.
    """

    tcp_keepalive_seconds: Count = 60
    """How long an idle connection is left alone before it is probed. See tcp(7), TCP_KEEPIDLE."""

    tcp_user_timeout_seconds: Count = 60
    """How long sent data may stay unacknowledged. See tcp(7), TCP_USER_TIMEOUT."""


class Publishing(Section, frozen=True, kw_only=True):
    """rtcombined, rtdispatcher: what producers may publish."""

    event_bytes: Bytes = 65_536
    """The data of one event, as compact JSON."""

    batch_events: Count = 1_000
    """Events in one batch."""

    batch_bytes: Bytes = 1_048_576
    """The body of one request."""


class LinkSettings(Section, frozen=True, kw_only=True):
    """The way to one place that takes batches of events."""

    batch_events: Count = 1_000
    """Events in one request."""

    batch_bytes: Bytes = 262_144
    """Bytes in one request."""

    mailbox_bytes: Bytes = 16_777_216
    """How much may wait for one place; beyond it the oldest events are dropped."""

    mailbox_events: Count = 100_000
    """How many events may wait for one place."""

    repeat_seconds: Seconds = 30
    """How long a request whose answer was lost may be repeated. It must be no more than the
    viewers.recent_seconds for which frontends recognize a repeat.
    """


class Deliveries(LinkSettings, frozen=True, kw_only=True):
    """rtcombined, rtdispatcher: the way to each frontend."""

    sweep_seconds: Seconds = 5
    """How often the links to frontends whose lease has ended are closed."""


class Forwards(LinkSettings, frozen=True, kw_only=True):
    """rtcombined, rtdispatcher: the way to each peer datacenter."""


class Datacenters(Section, frozen=True, kw_only=True):
    """rtcombined, rtdispatcher: this datacenter and its peers."""

    name: str = ""
    """The name of this datacenter, 1 to 64 of A-Z a-z 0-9 . _ - Example: "dc1"."""

    peers: tuple[str, ...] = ()
    """The other datacenters, to each of which everything that is published here is forwarded: its
    name, and the URLs of its dispatchers. One of them is used until it fails, then the next.
    Datacenters that peer with each other must share the secret.
    Example: ["dc2=http://10.1.0.2:8090,http://10.1.0.3:8090", "dc3=http://10.2.0.2:8090"].
    """


class Presence(Section, frozen=True, kw_only=True):
    """rtcombined, rtfrontend, rtdispatcher: which members are online."""

    heartbeat_seconds: ShortSeconds = 30
    """How often a frontend reports each of its members to the dispatchers."""

    grace_seconds: ShortSeconds = 5
    """How late such a heartbeat may be. A member of whom nothing was heard for heartbeat_seconds
    and twice this is offline.
    """

    batch_members: Count = 1_000
    """How many members one request may report, or ask for."""

    sweep_seconds: Seconds = 1
    """How often a dispatcher looks for members who have gone offline, if none is due before."""

    claim_seconds: Seconds = 5
    """After this time another dispatcher publishes a change in place of one that has not. It must
    be less than viewers.recent_seconds, so that frontends recognize what was published twice.
    """


class Workers(Section, frozen=True, kw_only=True):
    """rtfrontend, rtdispatcher: several processes that share a listener."""

    count: Annotated[int, Meta(gt=0, le=1000)] = 1
    """How many processes share the public listener of rtfrontend, or the listener of rtdispatcher,
    which then needs redis. Each frontend worker is a node: its name is node.name and -w0, -w1 and
    so on. Worker 0 has the ports of listeners.internal and node.advertise, and each further worker
    the next one; the path of a UNIX socket is followed by .0, .1 and so on.
    """

    listen: str = ""
    """rtdispatcher: where each process answers for itself alone, for its health and metrics; the
    port is worker 0's, as above. Empty stands for nowhere.
    """

    grace_seconds: Seconds = 10
    """A worker that has not ended this long after process.drain_seconds is killed."""


class WorkerRestart(Pauses, frozen=True, kw_only=True):
    """rtfrontend, rtdispatcher: the pause before a worker that has ended is started again."""

    max_seconds: Seconds = 5
    """Where the doubling ends. A worker that has run for so long begins anew with the shortest."""


class Process(Section, frozen=True, kw_only=True):
    """The process itself."""

    drain_seconds: Annotated[float, Meta(ge=0, le=YEAR_SECONDS)] = 5
    """On SIGTERM and SIGINT: how long the ends of the streams are spread over, and how long a
    dispatcher goes on delivering and forwarding what waits.
    """

    turn_slice_seconds: Seconds = 0.002
    """How long actors take their turns before the reactor reads and accepts."""

    tick_seconds: Seconds = 0.25
    """The precision of heartbeats and stall limits."""


class Likes(Section, frozen=True, kw_only=True):
    """rtlikes, and rtcombined with listeners.app: the live-video app."""

    frontend: str = ""
    """The URL at which browsers reach the frontends. In rtcombined, empty stands for the public
    port of the host that serves the page. Example: "https://stream.example.com".
    """

    videos: tuple[str, ...] = ("red=Canyon at dusk", "green=Northern lights")
    """What can be watched: a name, 1 to 64 of A-Z a-z 0-9 _ -, and a title."""

    token_seconds: Seconds = 43_200
    """How long a member's token is valid."""

    behind_proxy: bool = False
    """Takes the address of a visitor from the last entry of X-Forwarded-For. Turn it on only where
    all requests come through a proxy that sets it.
    """

    comment_characters: Count = 500
    """The longest comment or message."""

    publish_seconds: Seconds = 1
    """How long the app waits for one dispatcher to accept an event before it tries the next."""

    publish_waiting: Count = 1_000
    """How many events may wait for a dispatcher; further ones are stored, and not published."""

    viewers_seconds: Seconds = 2
    """How often the dispatchers are asked how many viewers there are."""


class LikesDatabase(Section, frozen=True, kw_only=True):
    """rtlikes, and rtcombined with listeners.app: where the live-video app keeps everything."""

    path: str = "livevideo.sqlite"
    """The SQLite file."""

    busy_seconds: Seconds = 5
    """How long a write waits for another process that has locked the file."""

    waiting: Count = 1_000
    """How many reads and writes may wait for their turn before a request is refused."""


class LikesLimits(Section, frozen=True, kw_only=True):
    """rtlikes, and rtcombined with listeners.app: what one member, or one address of visitors
    without a name, may do.
    """

    likes_per_second: Rate = 10
    """Likes, on average."""

    likes_burst: Count = 20
    """Likes at once, after a while without any."""

    comments_per_second: Rate = 2
    """Comments, on average; messages count apart, with the same limits."""

    comments_burst: Count = 10
    """Comments at once."""

    sessions_per_second: Rate = 10
    """Names that one address takes, on average."""

    sessions_burst: Count = 100
    """Names at once."""

    visitors: Count = 100_000
    """How many visitors are remembered; beyond that, those who did nothing for longest are
    forgotten.
    """


class LikesCrowd(Section, frozen=True, kw_only=True):
    """rtlikes, and rtcombined with listeners.app: what the button for a crowd adds."""

    likes_per_second: Annotated[int, Meta(gt=0, le=10_000)] = 100
    """Likes a second."""

    seconds: Seconds = 30
    """How long the crowd stays."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All sections, by the names of their tables. Only what puts a role together takes it."""

    listeners: Listeners = Listeners()
    node: Node = Node()
    access: Access = Access()
    http: Http = Http()
    retry: Retry = Retry()
    redis: Redis = Redis()
    routing: Routing = Routing()
    viewers: Viewers = Viewers()
    sockets: Sockets = Sockets()
    publishing: Publishing = Publishing()
    deliveries: Deliveries = Deliveries()
    forwards: Forwards = Forwards()
    datacenters: Datacenters = Datacenters()
    presence: Presence = Presence()
    workers: Workers = Workers()
    worker_restart: WorkerRestart = WorkerRestart()
    process: Process = Process()
    likes: Likes = Likes()
    likes_database: LikesDatabase = LikesDatabase()
    likes_limits: LikesLimits = LikesLimits()
    likes_crowd: LikesCrowd = LikesCrowd()
