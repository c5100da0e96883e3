"""The roles that twistd offers: rtcombined, rtfrontend, rtdispatcher, rtlatency, rtlikes."""

from twisted.application.service import ServiceMaker

combined = ServiceMaker(
    "rtdeliver combined",
    "rtdeliver.tap.combined",
    "Deliver events to browsers: dispatcher and frontend in one process.",
    "rtcombined",
)
frontend = ServiceMaker(
    "rtdeliver frontend",
    "rtdeliver.tap.frontend",
    "Hold the browsers' event streams.",
    "rtfrontend",
)
dispatcher = ServiceMaker(
    "rtdeliver dispatcher",
    "rtdeliver.tap.dispatcher",
    "Accept events and route them to the frontends that have viewers.",
    "rtdispatcher",
)
latency = ServiceMaker(
    "rtdeliver latency",
    "rtdeliver.tap.latency",
    "Join what all hops recorded of events: how fast and how completely they came.",
    "rtlatency",
)
likes = ServiceMaker(
    "rtdeliver likes",
    "rtdeliver.tap.likes",
    "Serve the live-video app, which publishes to any dispatcher.",
    "rtlikes",
)
