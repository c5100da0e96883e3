/** What the declared types of the client module let a page do, and what they refuse. */

import {
	connect,
	type Disconnection,
	type Gap,
	type Stream,
	type StreamEvent,
	type StreamOptions,
	type StreamState,
	type TopicsChange,
} from "../../rtdeliver/client/rtdeliver.js";

interface Like {
	likes: number;
}

const options: StreamOptions = { url: "http://localhost:8080" };
const stream: Stream = connect({ ...options, topics: ["live:red"], token: () => null });

const all: Promise<boolean> = stream.subscribe("live:blue", "live:green");
const none: Promise<boolean> = stream.unsubscribe();
const state: StreamState = stream.state;
const topics: string[] = stream.topics;

const stop: () => void = stream.onEvent<Like>("like", ({ data, at }) => data.likes.toFixed(at));
stream.onEvent("*", (event: StreamEvent) => event.data.anything);
stream.onGap(({ lost, topics }: Gap) => `${lost?.toFixed()} of ${topics.join()}`);
stream.onState((next) => next === "lost");
stream.onExpired(() => stream.reconnect());
stream.onTopics(({ added, removed }: TopicsChange) => [...added, ...removed].join());
stream.onDisconnected(({ reason, reconnect }: Disconnection) => reconnect || reason.length > 0);
stream.close();

// @ts-expect-error It has to be told where the frontends are.
connect({ topics: ["live:red"] });
// @ts-expect-error Topics are given one by one.
stream.subscribe(["live:red"]);
// @ts-expect-error There is no such state.
stream.onState((next) => next === "broken");
// @ts-expect-error What is watched is changed by subscribe() and unsubscribe().
stream.topics = [];
// @ts-expect-error Nobody may know how many were lost.
stream.onGap(({ lost }) => lost.toFixed());
// @ts-expect-error A like has no such field.
stream.onEvent<Like>("like", ({ data }) => data.hates);

export { all, none, state, stop, topics };
