"""Which values go together."""

from tests.config.files import FileTestCase


class CheckTests(FileTestCase):
    def test_bounds_that_belong_together_are_compared(self) -> None:
        repeat = "a frontend must still recognize"
        complaints = {
            "viewers.busy_reconnect_min_seconds = 31.5": (
                "viewers.busy_reconnect_min_seconds (31.5) must be at most"
                " viewers.busy_reconnect_max_seconds (30)"
            ),
            "viewers.busy_reconnect_max_seconds = 4": (
                "viewers.busy_reconnect_min_seconds (5) must be at most"
                " viewers.busy_reconnect_max_seconds (4)"
            ),
            "retry.min_seconds = 4": "retry.min_seconds (4) must be at most retry.max_seconds (3)",
            "worker_restart.min_seconds = 6": (
                "worker_restart.min_seconds (6) must be at most worker_restart.max_seconds (5)"
            ),
            "routing.announce_seconds = 31": (
                "routing.announce_seconds (31) must be at most routing.lease_seconds (30):"
                " an announcement renews the lease"
            ),
            "routing.lease_seconds = 2": (
                "routing.announce_seconds (3) must be at most routing.lease_seconds (2):"
                " an announcement renews the lease"
            ),
            "viewers.recent_seconds = 29": (
                "deliveries.repeat_seconds (30) must be at most viewers.recent_seconds (29):"
                f" {repeat} a repeated delivery"
            ),
            "forwards.repeat_seconds = 61": (
                "forwards.repeat_seconds (61) must be at most viewers.recent_seconds (60):"
                f" {repeat} a repeated forward"
            ),
            "presence.claim_seconds = 60": (
                "presence.claim_seconds (60) must be less than viewers.recent_seconds (60):"
                f" {repeat} a presence change that is published twice"
            ),
            "http.client_idle_seconds = 60": (
                "http.client_idle_seconds (60) must be less than http.idle_seconds (60):"
                " the client must close an idle connection before the server does"
            ),
        }
        self.assertEqual({text: self.complaint(text) for text in complaints}, complaints)

    def test_the_largest_body_has_room_at_either_kind_of_listener(self) -> None:
        for key in ("http.public_body_bytes", "http.internal_body_bytes"):
            text = f"http.bodies_bytes = 67_108_865\n{key} = "
            self.assertTrue(self.takes(text + "33_554_432"))
            self.assertEqual(
                self.complaint(text + "33_554_433"),
                f"{key} (33554433) must be at most half of http.bodies_bytes (67108865): public and"
                " internal listeners share these bytes",
            )

    def test_bounds_may_be_as_close_as_they_may(self) -> None:
        for text in (
            "routing.announce_seconds = 30",
            "deliveries.repeat_seconds = 60",
            "presence.claim_seconds = 59.9",
            "http.client_idle_seconds = 59.9",
            "retry.min_seconds = 3",
        ):
            self.assertTrue(self.takes(text), text)

    def test_rows_from_before_a_loss_of_redis_stand_until_frontends_have_announced_anew(
        self,
    ) -> None:
        text = "redis = {urls = ['redis://h'], grace_seconds = 6}\nretry.max_seconds = %s"
        self.assertEqual(
            self.complaint(text % 3),
            "redis.grace_seconds (6) must be more than routing.announce_seconds and"
            " retry.max_seconds together (6): frontends need that long to announce again",
        )
        self.assertTrue(self.takes(text % 2.9))
        # Without Redis nothing is ever lost in it.
        self.assertTrue(self.takes("redis.grace_seconds = 1"))

    def test_an_event_of_the_largest_size_has_room_everywhere(self) -> None:
        for key in (
            "viewers.mailbox_bytes",
            "deliveries.mailbox_bytes",
            "forwards.mailbox_bytes",
            "publishing.batch_bytes",
        ):
            text = f"publishing.event_bytes = 10_000\n{key} = "
            self.assertEqual(
                self.complaint(text + "14_095"),
                f"{key} (14095) must be at least 14096: one event takes publishing.event_bytes"
                " and up to 4096 bytes around it",
            )
            self.assertTrue(self.takes(text + "14_096"))

    def test_a_nodes_name_is_checked(self) -> None:
        self.assertEqual(
            self.complaint("node.name = 'a b'"),
            "node.name: a b: a node's name must be 1 to 64 of A-Z a-z 0-9 . _ -",
        )

    def test_urls_of_nodes_are_checked(self) -> None:
        good = ["http://h", "http://h:1", "https://10.0.0.5:8090/", "http://[::1]:8090"]
        self.assertEqual(self.load(f"node.dispatchers = {good}").node.dispatchers, tuple(good))
        for url in good:
            self.assertEqual(self.load(f"node.advertise = '{url}'").node.advertise, url)
        for url in (
            "",
            "h:8090",
            "10.0.0.5:8090",
            "ftp://h:1",
            "http://",
            "http://:8090",
            "http://h:0",
            "http://h:x",
            "http://h:65536",
            "http://[::1:8090",
            "http://h:1/path",
            "http://h:1?q=1",
            "http://h:1#f",
        ):
            self.assertEqual(
                self.complaint(f"node.dispatchers = ['http://good:1', '{url}']"),
                f"node.dispatchers: {url} is not a URL such as http://10.0.0.5:8090",
            )

    def test_white_space_in_a_url_is_refused(self) -> None:
        for url in ("http://h h:1", "http://h:1 ", "http://h\\t:1", "http://h\\n:1"):
            self.complaint(f'node.dispatchers = ["{url}"]')
            self.complaint(f'node.advertise = "{url}"')

    def test_peers_are_checked(self) -> None:
        good = ["dc2=http://h:1", "dc.3=http://10.1.0.2:8090,https://10.1.0.3:8090/"]
        text = "datacenters = {name = 'dc1', peers = %s}"
        self.assertEqual(self.load(text % good).datacenters.peers, tuple(good))
        rule = "a datacenter's name must be 1 to 64 of A-Z a-z 0-9 . _ -"
        no_peer = "is not a peer such as dc2=http://10.1.0.2:8090,http://10.1.0.3:8090"
        no_url = "is not a URL such as http://10.0.0.5:8090"
        complaints = {
            "dc2": f"dc2 {no_peer}",
            "dc2=": f"dc2= {no_peer}",
            "http://h:1": f"http://h:1 {no_peer}",
            "=http://h:1": f": {rule}",
            "dc 2=http://h:1": f"dc 2: {rule}",
            "dc2=h:1": f"h:1 {no_url}",
            "dc2=http://h:1,": f" {no_url}",
            "dc2=http://h:1,http://h:1/x": f"http://h:1/x {no_url}",
            "dc1=http://h:1": "dc1 is the name of this datacenter; name only others",
            "dc.3=http://h:1": "dc.3 is named twice; give all its URLs in one entry",
        }
        for peer, complaint in complaints.items():
            self.assertEqual(
                self.complaint(text % [good[1], peer]), f"datacenters.peers: {complaint}"
            )
        self.assertEqual(
            self.complaint("datacenters.name = 'a b'"), f"datacenters.name: a b: {rule}"
        )

    def test_origins_are_checked(self) -> None:
        for origin in (
            "example.com",
            "https://",
            "https://example.com/",
            "https://example.com/app",
            "https://example.com?x",
            "https://example.com#x",
            "//example.com",
            "https://[",
            "https://*.",
            "https://*",
            "https://*.*.example.com",
            "https://www.*.example.com",
            "https://*example.com",
            "https://ann@example.com",
            "https://example.com:0",
            "https://example.com:65536",
            "https://exa mple.com",
        ):
            self.assertEqual(
                self.complaint(f"access.cors_origins = ['*', '{origin}']"),
                f"access.cors_origins: {origin} is not an origin such as https://example.com"
                " or https://*.example.com, with a port but without a path, nor * or same-host",
            )
