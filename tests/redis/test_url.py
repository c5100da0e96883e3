"""Tests of rtdeliver.redis.url."""

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import BadRequest
from rtdeliver.redis.url import RedisAddress, parse_redis_url


class ParseTests(SynchronousTestCase):
    def test_every_form_is_read(self) -> None:
        for url, expected in {
            "redis://h": RedisAddress(hosts=(("h", 6379),)),
            "redis://10.0.0.4:7000/2": RedisAddress(hosts=(("10.0.0.4", 7000),), database=2),
            "redis://[::1]:7000/": RedisAddress(hosts=(("::1", 7000),)),
            "redis://:p%40ss@h": RedisAddress(hosts=(("h", 6379),), password="p@ss"),
            "rediss://ann:s3cret@h:1": RedisAddress(
                hosts=(("h", 1),), tls=True, username="ann", password="s3cret"
            ),
            "unix:///run/redis.sock": RedisAddress(path="/run/redis.sock"),
            "unix://ann:s3cret@/run/redis.sock?database=3": RedisAddress(
                path="/run/redis.sock", username="ann", password="s3cret", database=3
            ),
            "sentinel://:s3cret@a,b:1/mymaster/4": RedisAddress(
                hosts=(("a", 26379), ("b", 1)), service="mymaster", password="s3cret", database=4
            ),
        }.items():
            self.assertEqual(parse_redis_url(url), expected, url)

    def test_anything_else_is_refused_with_what_would_be_right(self) -> None:
        for url in (
            "",
            "h:6379",
            "http://h",
            "redis://",
            "redis://h:port",
            "redis://h:999999",
            "redis://a,b",
            "redis://h/1/2",
            "redis://h/one",
            "redis://h?database=1",
            "redis://h#1",
            "redis://[::1",
            "unix://h/run/redis.sock",
            "unix://",
            "sentinel://h",
            "sentinel://h/service/1/2",
            "sentinel://h,/service",
            "sentinel://h/service?password=x",
            "sentinel://h/service?sentinel_password=x&sentinel_password=y",
        ):
            error = self.assertRaises(BadRequest, parse_redis_url, url)
            self.assertIn("redis://", error.message)

    def test_its_name_is_without_secrets_and_the_same_for_all_users(self) -> None:
        names = {
            parse_redis_url(url).name
            for url in ("redis://h", "redis://:s3cret@h:6379/0", "redis://ann:x@h")
        }
        self.assertEqual(len(names), 1)
        self.assertNotIn("s3cret", names.pop())

    def test_different_places_have_different_names(self) -> None:
        urls = ("redis://h", "redis://h:1", "redis://h/1", "unix:///h", "sentinel://h/s")
        self.assertEqual(len({parse_redis_url(url).name for url in urls}), len(urls))

    def test_its_place_is_told_without_secrets(self) -> None:
        for url, place in (
            ("redis://:s3cret@h:6380/1", "h:6380"),
            ("unix://:s3cret@/run/redis.sock", "/run/redis.sock"),
            ("sentinel://:s3cret@a,b:1/main?sentinel_password=x", "a:26379,b:1/main"),
        ):
            self.assertEqual(parse_redis_url(url).place, place)
