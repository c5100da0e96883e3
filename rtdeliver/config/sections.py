"""What can be set: one frozen section for each package, one table of the file for each section.

The docstring below a field explains the field; ``etc/rtdeliver.toml`` is generated from these. The
annotation of a field has its range.
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
OneIn = Annotated[int, Meta(ge=0, le=1_000_000)]

SAME_HOST = "same-host"
"""Among origins, stands for all pages of the same host, at any port."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file."""


class Listeners(Section, frozen=True, kw_only=True):
    """Where a role listens, as Twisted endpoint strings (tcp:, tls:, ssl:, unix:, systemd:)."""

    public: str = "tcp:8080"
    """rtcombined, rtfrontend: where browsers connect."""

    internal: str = ""
    """Where other nodes and operators connect; in rtcombined, producers too. Empty means port 8090
    of 127.0.0.1 in rtcombined, port 8081 of 127.0.0.1 in rtfrontend, and nowhere in rtlikes.
    """

    listen: str = ""
    """rtdispatcher: where producers, frontends and operators connect; empty means port 8090 of
    127.0.0.1. rtlikes: where browsers open the live-video app; empty means port 8000.
    """

    app: str = ""
    """rtcombined: where browsers open the live-video app. Empty means nowhere."""

    backlog: Count = 4096
    """How many connections may wait to be accepted. The kernel caps it at net.core.somaxconn."""


class Node(Section, frozen=True, kw_only=True):
    """The name and the address of this process, and the dispatchers that it talks to."""

    name: str = ""
    """rtcombined, rtfrontend: the name of this node, 1 to 64 of A-Z a-z 0-9 . _ - It is a part of
    each connection id. Empty means the host's name and the process id.
    """

    advertise: str = ""
    """rtcombined, rtfrontend: the URL at which dispatchers reach the internal listener. Empty means
    the address that it listens on. A URL is required in rtfrontend if that is 0.0.0.0 or a UNIX
    socket. Example: "http://10.0.0.5:8081".
    """

    dispatchers: tuple[str, ...] = ()
    """rtfrontend, rtlikes: the URLs of the dispatchers, at least one. rtfrontend announces its
    viewers to one of them, and to the next when that fails. rtlikes publishes to any of them.
    Example: ["http://10.0.0.2:8090", "http://10.0.0.3:8090"].
    """


class Access(Section, frozen=True, kw_only=True):
    """Who may use which listener."""

    secret_file: str = ""
    """A file with one word, the secret. Requests to internal listeners must carry it as a bearer
    token. It is required if other machines can reach an internal listener.
    """

    insecure_internal: bool = False
    """Lets other machines use internal listeners without a secret."""

    token_key_file: str = ""
    """rtcombined, rtfrontend, rtlikes: a file with the key that signs members' tokens (HS256), at
    least 32 bytes. A frontend without a key accepts no tokens. The live-video app without a key
    makes its own, in a file beside its database.
    """

    keys: tuple[str, ...] = ()
    """rtcombined, rtfrontend: keys that tokens are checked with, beside that of token_key_file:
    "hs256:FILE" with a shared key, "pem:FILE" with a public key (RSA, P-256 or Ed25519) or a
    certificate, "jwks:URL" of a JSON Web Key Set. Each key is used with its own algorithm only.
    """

    public_topics: tuple[str, ...] | None = None
    """rtcombined, rtfrontend: the topics that anybody may watch, also without a token, as patterns
    in which * stands for any run of characters: ["live:*"]. It must be given where there are keys,
    so that nobody opens everything by forgetting it; ["*"] does open everything. Without keys and
    without this, anybody may watch everything; with token_key_file alone, the log warns of that.
    """

    jwks_refresh_seconds: ShortSeconds = 300
    """Time between two fetches of a JSON Web Key Set, at most. A token with an unknown key lets it
    be fetched earlier, once a minute at most.
    """

    issuer: str = ""
    """What tokens must say in iss. Empty means that it does not matter."""

    audience: str = ""
    """What tokens must name in aud. Empty means that it does not matter."""

    leeway_seconds: Annotated[float, Meta(ge=0, le=3600)] = 60
    """rtcombined, rtfrontend: by how much the clock of the application that signs tokens may be
    ahead, where a token says from when on it is valid (nbf).
    """

    longest_token_seconds: Annotated[float, Meta(gt=0, le=31_622_400)] = 604_800
    """rtcombined, rtdispatcher: how long /disconnect refuses tokens that were issued before. No
    token should be valid for longer.
    """

    max_revocations: Annotated[int, Meta(ge=1, le=10_000_000)] = 100_000
    """rtcombined, rtdispatcher: how many members, connections and tokens may be disconnected within
    that time. Further ones are refused.
    """

    revocation_seconds: ShortSeconds = 5
    """rtcombined, rtdispatcher: the longest time between two readings of what was revoked in a peer
    datacenter. Mostly it has come before.
    """

    cors_origins: tuple[str, ...] = ()
    """rtcombined, rtfrontend: the origins whose pages may read the streams, such as
    "https://example.com", or "https://*.example.com" for all hosts below it. "*" allows any origin.
    "same-host" allows pages of the same host at any port; it is the default of rtcombined when it
    serves the app.
    """


class Http(Section, frozen=True, kw_only=True):
    """Limits of the requests that a process serves, and of those that it makes."""

    idle_seconds: Seconds = 60
    """How long a client may keep a connection open without a request."""

    head_bytes: Bytes = 32_768
    """The largest head of a request: its line, with all topics of /connect, and its header fields,
    with the cookies.
    """

    head_seconds: Seconds = 20
    """How long a client may take to send the head of a request, from the first byte on."""

    body_seconds: Seconds = 30
    """How long a client may take to send the body of a request, from the end of the head on."""

    public_body_bytes: Bytes = 262_144
    """The largest body of a request to a public listener. A change of topics that adds 100 topics
    of 1024 bytes and removes 100 others takes about 206,000 bytes.
    """

    internal_body_bytes: Bytes = 33_554_432
    """The largest body of a request to an internal listener, and the largest answer that a node
    accepts from another one.
    """

    bodies_bytes: Bytes = 134_217_728
    """How many bytes of bodies that have not come completely a process holds: half of them at its
    public listeners, half of them at its internal ones. It must be at least twice as much as the
    largest body.
    """

    request_seconds: Seconds = 5
    """How long a request to another node may take, with its answer."""

    client_idle_seconds: Seconds = 30
    """How long a connection to another node is kept open without a request. It must be less than
    idle_seconds, so that the server does not close a connection that is about to be used.
    """


class Pauses(Section, frozen=True, kw_only=True):
    """The pauses between failing attempts."""

    min_seconds: Seconds = 0.1
    """The pause after the first failure. It doubles with each further failure. The actual wait is
    drawn between half of the pause and all of it, so that processes do not retry in step.
    """

    max_seconds: Seconds = 3
    """The longest pause, at which the doubling ends."""


class Retry(Pauses, frozen=True, kw_only=True):
    """The pause after a failed request to another node."""


class Redis(Section, frozen=True, kw_only=True):
    """rtcombined, rtdispatcher: where the routing table and presence are kept."""

    urls: tuple[str, ...] = ()
    """The URLs of the Redis servers. Without any, the routing table and presence are in memory, so
    there can be only one dispatcher. With several, topics and members are spread over them, and all
    dispatchers must have the same list.
      redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss://... for TLS,
      unix://[USER:PASSWORD@]/PATH[?database=N],
      sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]]/SERVICE[/DATABASE], with
        ?sentinel_password=PASSWORD and &sentinel_username=USER if the sentinels require them.
    Servers of Redis Cluster do not serve: give several independent ones instead.
    """

    ca_file: str = ""
    """For rediss: a file with the certificates of the authorities to trust. Empty means those of
    the system.
    """

    prefix: str = "rtdeliver:"
    """All keys, and the channel of changes, begin with this."""

    command_seconds: Seconds = 2
    """How long one command may take."""

    reconnect_seconds: Seconds = 1
    """The longest pause between attempts to connect."""

    sentinel_seconds: Seconds = 0.5
    """How long a sentinel may take to say where Redis is."""

    fresh_seconds: Seconds = 0.05
    """How long a dispatcher may use rows in its memory without a word from Redis; while there are
    events, it asks twice in this time. An announcement is answered once all dispatchers have
    acknowledged it, or after this time. It must be less than command_seconds.
    """

    grace_seconds: Seconds = 10
    """When Redis has come back, perhaps empty: how long a dispatcher goes on using the old rows of
    frontends that have not announced again. It must be more than routing.announce_seconds and
    retry.max_seconds together.
    """

    cached_topics: Count = 100_000
    """How many rows of the routing table a dispatcher keeps in memory, so that it need not read
    them from Redis.
    """


class Routing(Section, frozen=True, kw_only=True):
    """rtcombined, rtfrontend: how a frontend keeps its rows of the routing table up to date."""

    announce_seconds: Seconds = 3
    """How often a frontend renews its lease and announces changed viewer counts. The first viewer
    of a topic, and the end of the last one, are announced at once.
    """

    lease_seconds: ShortSeconds = 30
    """How long a frontend's rows stay valid without an announcement. It must be at least
    announce_seconds.
    """

    confirm_seconds: Seconds = 2
    """How long a subscriber waits for a dispatcher's confirmation before it gets the answer 202."""

    part_topics: Annotated[int, Meta(gt=0, le=1000)] = 1000
    """The most topics in one announcement; a frontend with more sends several."""

    part_bytes: Bytes = 262_144
    """The most bytes of topics in one announcement; a single topic always fits."""

    compare_seconds: Seconds = 300
    """How long it takes to repeat all topics, some with each renewal of the lease, so that rows
    that the routing table has lost come back.
    """


class Viewers(Section, frozen=True, kw_only=True):
    """rtcombined, rtfrontend: the browsers' streams."""

    max_connections: Annotated[int, Meta(ge=0)] = 0
    """How many streams a process holds; it asks further clients to come back later. 0 means as many
    as the limit of file descriptors allows.
    """

    topics_per_connection: Count = 100
    """How many topics one connection may watch."""

    topics: Count = 500_000
    """How many different topics the viewers of a process may watch together. It bounds what one
    process keeps and announces. Beyond that, a client that wants another topic is asked to come
    back later, and a change that adds one is refused; topics that have viewers are not affected.
    """

    heartbeat_seconds: Seconds = 25
    """How often a frontend sends something on each stream, if only a comment. So proxies keep the
    stream open, and the frontend notices that a client is gone.
    """

    reconnect_seconds: Seconds = 3
    """How long a browser waits before it reconnects."""

    busy_reconnect_min_seconds: Seconds = 5
    """The shortest wait of a browser that was turned away, because this process is full."""

    busy_reconnect_max_seconds: Seconds = 30
    """The longest wait of such a browser. Each wait is drawn between the two."""

    drain_reconnect_seconds: Seconds = 1
    """How long a browser waits at most, when its stream ends because this process ends. Behind a
    balancer it then comes to another process. If it comes to this one again, it waits until
    process.drain_seconds are over, and up to 2 s more.
    """

    mailbox_bytes: Bytes = 1_048_576
    """How many bytes of a topic's events are kept for viewers that have not been sent them yet. All
    viewers share one copy.
    """

    mailbox_events: Count = 10_000
    """How many of a topic's events are kept for these viewers."""

    overflow: Literal["drop_oldest", "close"] = "drop_oldest"
    """What happens when a topic has more waiting events: "drop_oldest" drops the oldest ones and
    sends a gap frame to each viewer that missed some, "close" closes the streams of these viewers.
    """

    stall_seconds: Seconds = 30
    """A viewer that reads nothing for this long is disconnected."""

    send_bytes: Bytes = 65_536
    """How many bytes one turn hands to the kernel for one viewer."""

    recent_seconds: Seconds = 60
    """How long a frontend remembers the delivered events, to drop repeats. It forgets an event
    after twice this time at the latest, and not before this time unless recent_events forces it to.
    """

    recent_events: Annotated[int, Meta(ge=2)] = 1_000_000
    """The most events that it remembers; each takes about 100 bytes. Up to half as many in
    recent_seconds are all remembered for that long. If more come, the oldest ones are forgotten
    earlier, which the log says once and the metric rtdeliver_recent_forgotten_total counts.
    """


class Sockets(Section, frozen=True, kw_only=True):
    """rtcombined, rtfrontend: what the kernel does for each stream."""

    send_buffer_bytes: Annotated[int, Meta(ge=0)] = 131_072
    """The size of the kernel's send buffer; the kernel doubles it for its bookkeeping. With 0 the
    kernel chooses, up to some megabytes. See socket(7), SO_SNDBUF.
    """

    tcp_keepalive_seconds: Count = 60
    """How long a connection is idle before the kernel probes it. See tcp(7), TCP_KEEPIDLE."""

    tcp_user_timeout_seconds: Count = 60
    """How long sent data may stay unacknowledged. See tcp(7), TCP_USER_TIMEOUT."""


class Publishing(Section, frozen=True, kw_only=True):
    """rtcombined, rtdispatcher: how much producers may publish in one request."""

    event_bytes: Bytes = 60_000
    """The most data of one event, as compact JSON. Some client libraries lose lines of 65,536 bytes
    and more, and the line has the other fields too."""

    batch_events: Count = 1_000
    """The most events in one batch."""

    batch_bytes: Bytes = 1_048_576
    """The largest body of one request."""


class LinkSettings(Section, frozen=True, kw_only=True):
    """A link to one place that takes batches of events."""

    batch_events: Count = 1_000
    """The most events in one request."""

    batch_bytes: Bytes = 262_144
    """The most bytes in one request."""

    mailbox_bytes: Bytes = 16_777_216
    """How many bytes may wait for one place; beyond that, the oldest events are dropped."""

    mailbox_events: Count = 100_000
    """How many events may wait for one place."""

    repeat_seconds: Seconds = 30
    """How long a request may be repeated after its answer was lost. It must be at most
    viewers.recent_seconds, for which frontends recognize a repeat.
    """


class Deliveries(LinkSettings, frozen=True, kw_only=True):
    """rtcombined, rtdispatcher: the link to each frontend."""

    sweep_seconds: Seconds = 5
    """How often a dispatcher closes the links to frontends whose lease has ended."""

    settle_seconds: Seconds = 1
    """How often a dispatcher that delivered while the routing table could not be reached checks
    which frontends did not get these events, so that their viewers get gap frames.
    """

    uncertain_topics: Count = 10_000
    """For how many topics it remembers such events; further events are refused."""


class Forwards(LinkSettings, frozen=True, kw_only=True):
    """rtcombined, rtdispatcher: the link to each peer datacenter."""


class Datacenters(Section, frozen=True, kw_only=True):
    """rtcombined, rtdispatcher: this datacenter and its peers."""

    name: str = ""
    """The name of this datacenter, 1 to 64 of A-Z a-z 0-9 . _ - Example: "dc1"."""

    peers: tuple[str, ...] = ()
    """The other datacenters, each with its name and the URLs of its dispatchers. Dispatchers
    forward every event that is published here to each of them: to one URL until that fails, then to
    the next. Datacenters that peer with each other must share the secret.
    Example: ["dc2=http://10.1.0.2:8090,http://10.1.0.3:8090", "dc3=http://10.2.0.2:8090"].
    """


class Presence(Section, frozen=True, kw_only=True):
    """rtcombined, rtfrontend, rtdispatcher: which members are online."""

    heartbeat_seconds: ShortSeconds = 30
    """How often a frontend reports each of its members to the dispatchers."""

    grace_seconds: ShortSeconds = 5
    """How late such a report may be. A member goes offline when it was not reported for
    heartbeat_seconds and twice this time.
    """

    batch_members: Count = 1_000
    """How many members one request may report, or ask about."""

    sweep_seconds: Seconds = 1
    """How often a dispatcher looks for members that went offline, unless one is due earlier."""

    claim_seconds: Seconds = 5
    """How long a dispatcher has to publish a change before another dispatcher does so. It must be
    less than viewers.recent_seconds, so that frontends drop what was published twice.
    """


class Topics(Section, frozen=True, kw_only=True):
    """rtcombined, rtdispatcher: what is told of topics."""

    occupancy: tuple[str, ...] = ()
    """The topics of which it is told when they get their first viewer in this datacenter and lose
    their last one, as patterns in which * stands for any run of characters: ["live:*"]. The events
    "occupied" and "vacated" are published on occupancy:TOPIC, in this datacenter only.
    """

    recheck_seconds: Seconds = 10
    """How often a dispatcher makes sure that such a topic still has viewers, since their frontend
    may have died. That is noticed within this time after the frontend's lease has ended.
    """

    sweep_seconds: Seconds = 1
    """How often a dispatcher looks for topics that are due, unless one is due earlier."""

    claim_seconds: Seconds = 5
    """How long a dispatcher has to publish a change before another dispatcher does so. It must be
    less than viewers.recent_seconds, so that frontends drop what was published twice.
    """


class HistoryClass(Section, frozen=True, kw_only=True):
    """How much is kept of a topic."""

    events: Annotated[int, Meta(gt=0, le=1_000_000)]
    seconds: Seconds


class History(Section, frozen=True, kw_only=True):
    """The events of some topics are kept, so that viewers who were away get what they missed."""

    topics: dict[str, HistoryClass] = {}
    """rtcombined, rtdispatcher: the topics whose events are kept, as patterns in which * stands for
    any run of characters, each with how many events of a topic are kept, and for how long. The
    first pattern that matches counts. With Redis, the events are kept there, otherwise in memory.
      topics = {"conv:*" = {events = 1000, seconds = 86400}}
    """

    overlap_seconds: ShortSeconds = 5
    """rtcombined, rtdispatcher: a viewer that comes back is sent again what was stored so long
    before the last event that it had, in all topics but that of this event.
    """

    claim_seconds: ShortSeconds = 5
    """rtcombined, rtdispatcher: how long a dispatcher has to deliver an event that it has stored,
    before another dispatcher does so.
    """

    sweep_seconds: ShortSeconds = 1
    """rtcombined, rtdispatcher: how often a dispatcher looks for such events."""

    waiting_events: Annotated[int, Meta(gt=0, le=1_000_000)] = 50_000
    """rtcombined, rtdispatcher: how many events may wait to be stored, and how many may be being
    delivered before others take over.
    """

    page_events: Annotated[int, Meta(gt=0, le=10_000)] = 500
    """rtcombined, rtdispatcher: the most events that are read at a time."""

    page_bytes: Bytes = 262_144
    """rtcombined, rtdispatcher: the most bytes of them; a single event always fits."""

    memory_bytes: Bytes = 268_435_456
    """rtcombined, rtdispatcher without Redis: how many bytes of events are kept in memory; beyond
    that, the topics are cleared that had no event for longest.
    """

    repair_seconds: ShortSeconds = 0.02
    """rtcombined, rtfrontend: how long a frontend waits for an event that comes later than the one
    after it, before it reads the event from the history.
    """

    give_up_seconds: ShortSeconds = 10
    """rtcombined, rtfrontend: after this time without an answer from a dispatcher, viewers are sent
    a gap in place of what could not be read.
    """

    reads: Annotated[int, Meta(gt=0, le=100)] = 4
    """rtcombined, rtfrontend: how many requests for history a frontend has in flight."""

    read_queries: Annotated[int, Meta(gt=0, le=100)] = 20
    """rtcombined, rtfrontend: the most topics that one of them is about."""

    cache_seconds: ShortSeconds = 3
    """rtcombined, rtfrontend: how long a frontend keeps what it has read, since after a restart
    many viewers ask for the same.
    """

    cache_bytes: Bytes = 67_108_864
    """rtcombined, rtfrontend: how many bytes of that it keeps."""


class Workers(Section, frozen=True, kw_only=True):
    """rtfrontend, rtdispatcher: several processes that share a listener."""

    count: Annotated[int, Meta(gt=0, le=1000)] = 1
    """How many processes share the public listener of rtfrontend, or the listener of rtdispatcher,
    which then needs redis.urls. Each frontend worker is a node of its own; -w0, -w1 and so on is
    added to node.name. Worker 0 has the ports in listeners.internal and node.advertise, and each
    further worker has the next port. To the path of a UNIX socket, .0, .1 and so on is added.
    """

    listen: str = ""
    """rtdispatcher: where each worker can be reached alone, for its health and metrics. The port is
    that of worker 0; the others follow as above. Empty means nowhere.
    """

    grace_seconds: Seconds = 10
    """How long after process.drain_seconds a worker that has not ended is killed."""


class WorkerRestart(Pauses, frozen=True, kw_only=True):
    """rtfrontend, rtdispatcher: the pause before a worker that has ended is started again."""

    max_seconds: Seconds = 5
    """The longest pause, at which the doubling ends. After a worker has run for this long, its
    pauses begin again with the shortest.
    """


class Process(Section, frozen=True, kw_only=True):
    """The process itself."""

    drain_seconds: Annotated[float, Meta(ge=0, le=YEAR_SECONDS)] = 5
    """After SIGTERM or SIGINT: how long a frontend takes to end its streams, and how long a
    dispatcher goes on delivering and forwarding waiting events. The frontend ends the streams one
    after the other in the first four fifths of the time; a viewer that still reads then is sent
    what waits for it, until the time is over.
    """

    turn_slice_seconds: Seconds = 0.002
    """How long actors take turns before the reactor reads and accepts again."""

    log_format: Literal["text", "json"] = "text"
    """How lines of the log are written: as text, or each as a JSON object, with the names that
    twisted.logger gives its fields. With twistd's --logger, this has no effect.
    """

    tick_seconds: Seconds = 0.25
    """The precision of heartbeats and stall limits."""


class Likes(Section, frozen=True, kw_only=True):
    """rtlikes, and rtcombined with listeners.app: the live-video app."""

    frontend: str = ""
    """The URL at which browsers reach the frontends; rtlikes requires it. In rtcombined, empty
    means the public port of the host that serves the page. Example: "https://stream.example.com".
    """

    videos: tuple[str, ...] = ("red=Canyon at dusk", "green=Northern lights")
    """The videos, each with a name, 1 to 64 of A-Z a-z 0-9 _ -, and a title."""

    token_seconds: Seconds = 43_200
    """How long a member's token is valid."""

    moderators: tuple[str, ...] = ()
    """The members who may remove comments and ban members. Whoever takes one of these names needs
    the password.
    """

    moderator_password_file: str = ""
    """A file with the password of the moderators, in one line. It is required where there are any.
    """

    behind_proxy: bool = False
    """Takes the address of a visitor from the last entry of X-Forwarded-For. Turn it on if all
    requests come through a proxy that sets this field, and only then. Behind a proxy without it,
    all visitors share the limits of one address.
    """

    comment_characters: Count = 500
    """The longest comment or message."""

    publish_seconds: Seconds = 1
    """How long the app waits for one dispatcher to accept an event before it tries the next."""

    publish_waiting: Count = 1_000
    """How many events may wait for a dispatcher; further ones are stored but not published."""

    viewers_seconds: Seconds = 2
    """How often the app asks the dispatchers how many viewers there are."""


class LikesDatabase(Section, frozen=True, kw_only=True):
    """rtlikes, and rtcombined with listeners.app: where the live-video app keeps everything."""

    path: str = "livevideo.sqlite"
    """The SQLite file."""

    busy_seconds: Seconds = 5
    """How long a write waits for another process that has locked the file."""

    check_seconds: ShortSeconds = 2
    """How often the app checks that it can write to the file. While it cannot, it is not ready, and
    refuses requests.
    """

    waiting: Count = 1_000
    """How many reads and writes may wait; further requests are refused."""


class LikesLimits(Section, frozen=True, kw_only=True):
    """rtlikes, and rtcombined with listeners.app: how much one member may do, or all visitors
    without a name at one address; and how much all at one address may do, with and without names.
    An address is one of IPv4, or the first 64 bits of one of IPv6.
    """

    likes_per_second: Rate = 10
    """Likes per second, on average. Typing counts as a like. What was seen of a conversation has
    the same limits, and is counted apart.
    """

    likes_burst: Count = 20
    """Likes in one burst, after a while without any."""

    comments_per_second: Rate = 2
    """Comments per second, on average. Messages have the same limits, and are counted apart."""

    comments_burst: Count = 10
    """Comments in one burst."""

    sessions_per_second: Rate = 10
    """Names that one address may take per second, on average."""

    sessions_burst: Count = 100
    """Names in one burst."""

    address_members: Annotated[float, Meta(ge=1, le=10_000)] = 10
    """One address may do as much as this many members: by default, 100 likes per second. It is more
    than one, since several people may share an address. It is limited, since one visitor may take
    many names. See likes.behind_proxy for what the address is.
    """

    visitors: Count = 100_000
    """How many visitors the app remembers, and how many addresses; beyond that, it forgets those
    who did nothing for longest.
    """


class LikesCrowd(Section, frozen=True, kw_only=True):
    """rtlikes, and rtcombined with listeners.app: the crowd that a button of the page adds."""

    likes_per_second: Annotated[int, Meta(gt=0, le=10_000)] = 100
    """Likes per second."""

    seconds: Seconds = 30
    """How long the crowd stays."""


class Latency(Section, frozen=True, kw_only=True):
    """How latency is measured. What is tracked must be the same in all processes."""

    receipts_one_in: OneIn = 100
    """rtcombined, rtfrontend: pages with rtdeliver.js tell their frontend when they have received
    one in so many events. 0 means none.
    """

    receipts_events: Count = 10_000
    """How many of these events a frontend remembers; a page that tells later is not counted."""

    track_one_in: OneIn = 100
    """One in so many events is tracked: each process that it passes records when, and the records
    are joined. 0 means none.
    """

    track_types: dict[str, OneIn] = {}
    """The same for single types of events, such as {like = 1000, message = 1}."""

    waiting_records: Count = 10_000
    """How many records may wait in a process to be written. Further ones are dropped."""

    write_seconds: ShortSeconds = 0.5
    """Time between two writes of the records of a process."""

    settle_seconds: ShortSeconds = 10
    """How long after an event was delivered its frontend still records who is sent it and who
    received it. What has not arrived anywhere after that time counts as missing.
    """

    window_seconds: ShortSeconds = 120
    """How long the records of an event are waited for, and joined in whatever order they come."""

    events: Count = 50_000
    """How many events may be joined at a time in a process. The records of further ones are
    dropped.
    """

    partitions: Annotated[int, Meta(gt=0, le=1024)] = 16
    """Into how many streams in Redis the records are spread. Each is joined by one process."""

    partition_records: Count = 10_000
    """How many records a stream in Redis may have. Then it drops the oldest."""

    lease_seconds: ShortSeconds = 5
    """rtlatency, rtcombined with Redis: after this time without a word from a process, others take
    over its partitions.
    """

    read_seconds: ShortSeconds = 0.5
    """rtlatency, rtcombined with Redis: time between two reads of records from Redis."""

    objective_ms: Annotated[float, Meta(gt=0, le=3_600_000)] = 75
    """From the acceptance of an event until pages have received it, objective_share of the receipts
    should take at most so many milliseconds, over the last minute.
    """

    objective_share: Annotated[float, Meta(gt=0, le=1)] = 0.9
    """The share of the receipts for which the objective must hold."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All sections, by the names of their tables. Only the code that assembles a role takes it."""

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
    topics: Topics = Topics()
    history: History = History()
    latency: Latency = Latency()
    workers: Workers = Workers()
    worker_restart: WorkerRestart = WorkerRestart()
    process: Process = Process()
    likes: Likes = Likes()
    likes_database: LikesDatabase = LikesDatabase()
    likes_limits: LikesLimits = LikesLimits()
    likes_crowd: LikesCrowd = LikesCrowd()
