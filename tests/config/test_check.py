"""Which values go together."""

from tests.config.files import FileTestCase


class CheckTests(FileTestCase):
    def test_bounds_that_belong_together_are_compared(self) -> None:
        repeat = "a frontend must recognize"
        complaints = {
            "viewers.busy_reconnect_min_seconds = 31": (
                "viewers.busy_reconnect_min_seconds is more than viewers.busy_reconnect_max_seconds"
            ),
            "viewers.busy_reconnect_max_seconds = 4": (
                "viewers.busy_reconnect_min_seconds is more than viewers.busy_reconnect_max_seconds"
            ),
            "retry.min_seconds = 4": "retry.min_seconds is more than retry.max_seconds",
            "worker_restart.min_seconds = 6": (
                "worker_restart.min_seconds is more than worker_restart.max_seconds"
            ),
            "routing.announce_seconds = 31": (
                "routing.announce_seconds is more than routing.lease_seconds:"
                " an announcement renews the lease"
            ),
            "routing.lease_seconds = 2": (
                "routing.announce_seconds is more than routing.lease_seconds:"
                " an announcement renews the lease"
            ),
            "viewers.recent_seconds = 29": (
                "deliveries.repeat_seconds is more than viewers.recent_seconds:"
                f" {repeat} a delivery that is repeated"
            ),
            "forwards.repeat_seconds = 61": (
                "forwards.repeat_seconds is more than viewers.recent_seconds:"
                f" {repeat} a forward that is repeated"
            ),
            "presence.claim_seconds = 60": (
                "presence.claim_seconds is not less than viewers.recent_seconds:"
                f" {repeat} a change of presence that two dispatchers publish"
            ),
            "http.client_idle_seconds = 60": (
                "http.client_idle_seconds is not less than http.idle_seconds: a request must not"
                " be sent on a connection that the server closes at that moment"
            ),
        }
        self.assertEqual({text: self.complaint(text) for text in complaints}, complaints)

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
        self.assertIn("redis.grace_seconds is not more than", self.complaint(text % 3))
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
                f"{key} has no room for an event of publishing.event_bytes and 4096 bytes more",
            )
            self.assertTrue(self.takes(text + "14_096"))

    def test_a_nodes_name_is_checked(self) -> None:
        self.assertEqual(
            self.complaint("node.name = 'a b'"),
            "node.name: a node's name is 1 to 64 of A-Z a-z 0-9 . _ -",
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
                f"node.dispatchers: {url} is not like http://10.0.0.5:8090",
            )

    def test_white_space_in_a_url_is_refused(self) -> None:
        for url in ("http://h h:1", "http://h:1 ", "http://h\\t:1", "http://h\\n:1"):
            self.complaint(f'node.dispatchers = ["{url}"]')
            self.complaint(f'node.advertise = "{url}"')

    def test_peers_are_checked(self) -> None:
        good = ["dc2=http://h:1", "dc.3=http://10.1.0.2:8090,https://10.1.0.3:8090/"]
        text = "datacenters = {name = 'dc1', peers = %s}"
        self.assertEqual(self.load(text % good).datacenters.peers, tuple(good))
        rule = "a datacenter's name is 1 to 64 of A-Z a-z 0-9 . _ -"
        complaints = {
            "dc2": "dc2 is not like dc2=http://10.1.0.2:8090,http://10.1.0.3:8090",
            "dc2=": "dc2= is not like dc2=http://10.1.0.2:8090,http://10.1.0.3:8090",
            "http://h:1": "http://h:1 is not like dc2=http://10.1.0.2:8090,http://10.1.0.3:8090",
            "=http://h:1": f": {rule}",
            "dc 2=http://h:1": f"dc 2: {rule}",
            "dc2=h:1": "h:1 is not like http://10.0.0.5:8090",
            "dc2=http://h:1,": " is not like http://10.0.0.5:8090",
            "dc2=http://h:1,http://h:1/x": "http://h:1/x is not like http://10.0.0.5:8090",
            "dc1=http://h:1": "dc1 is this datacenter itself",
            "dc.3=http://h:1": "dc.3 is named twice; give all its URLs at once",
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
        ):
            self.assertEqual(
                self.complaint(f"access.cors_origins = ['*', '{origin}']"),
                f"access.cors_origins: {origin} is not *, same-host, or like https://example.com",
            )
