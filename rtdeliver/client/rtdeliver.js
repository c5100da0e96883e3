/**
 * A stream of events from rtdeliver that keeps itself and its topics through every reconnect.
 */

const REQUEST_MS = 10_000;
const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 30_000;
// A stream whose begin does not come for so long is given up, and so is one that is silent for so
// many heartbeats.
const CONNECT_MS = 30_000;
const MISSED_HEARTBEATS = 2.5;
// How often it tells at most which events it has received.
const RECEIPTS_MS = 2_000;
// In which share of the time that is left a token is replaced, and how little is too little for that.
const RENEW_FROM = 0.7;
const RENEW_TO = 0.9;
const RENEW_MIN_MS = 3_000;
// The longest time that a browser's timer takes.
const TIMER_MS = 2 ** 31 - 1;
// Servers and proxies bound the length of a URL: further topics are added by a request.
const QUERY_CHARACTERS = 3_000;

/**
 * @typedef {object} StreamOptions
 * @property {string} url of a frontend
 * @property {string[]} [topics] to begin with
 * @property {() => string | null | Promise<string | null>} [token] gives a member's token whenever
 *   it connects, and before the last one expires
 * @property {boolean} [withCredentials] whether to send cookies to another origin
 */

/** @typedef {"connecting" | "catching up" | "open" | "lost" | "closed"} StreamState */

/**
 * @template [Data=any]
 * @typedef {object} StreamEvent
 * @property {string} topic
 * @property {string} type "message" unless the producer gave one
 * @property {string} id
 * @property {number} at when it was accepted, in milliseconds since the epoch
 * @property {Data} data what the producer published
 * @property {string} [position] its place in the history of its topic, if that has one
 */

/**
 * @typedef {object} Gap
 * @property {number | null} lost how many events; null if nobody knows
 * @property {string[]} topics of which they may have been
 */

/**
 * @typedef {object} TopicsChange
 * @property {string[]} added
 * @property {string[]} removed
 */

/**
 * @typedef {object} Disconnection
 * @property {string} reason what the backend says; empty if that is not known
 * @property {boolean} reconnect whether the stream connects again, with a new token
 */

/**
 * Opens a stream, which stays until `close()`.
 *
 * @param {StreamOptions} options
 */
export function connect(options) {
	return new Stream(options);
}

/** A stream that `connect` has opened. */
export class Stream {
	#url;
	#token;
	#credentials;
	/** @type {EventSource | undefined} */
	#source;
	/** @type {StreamState} */
	#state = "connecting";
	/** @type {string | null} */
	#connection = null;
	#wanted;
	// What is watched although it was not asked for: by the token, or by the backend.
	/** @type {Set<string>} */
	#given = new Set();
	// What the server begins with, and is not wanted any more.
	/** @type {Set<string>} */
	#left = new Set();
	// What the server has, as far as it has said so.
	/** @type {Set<string>} */
	#held = new Set();
	// Which of them may have changed since, by a request that was not answered.
	/** @type {Set<string>} */
	#unsure = new Set();
	// Of the last change of this connection, so that one which is delayed cannot undo a later one.
	#sequence = 0;
	// The connections for which a change is under way, and for which all has been in order.
	/** @type {string | null} */
	#changing = null;
	/** @type {string | null} */
	#settled = null;
	/** @type {{ topics: string[], resolve: (all: boolean) => void, reject: (why: Error) => void }[]} */
	#waiting = [];
	// After a refusal each alone, to find out which it was.
	#atOnce = Infinity;
	#failures = 0;
	// Whether a topic, or all of the request, may be wrong.
	#isRefused = false;
	// Whether the server has said when to come back, which only the browser knows.
	#isBusy = false;
	/** @type {number | undefined} */
	#timer;
	// The last position of each topic with history.
	/** @type {Map<string, Place>} */
	#places = new Map();
	// Those that it must have once it has caught up.
	/** @type {Map<string, Place>} */
	#ahead = new Map();
	// The topics that were watched on the last stream.
	/** @type {Set<string>} */
	#before = new Set();
	// How often it was opened or ended.
	#openings = 0;
	// When something came last, and for how long nothing may come.
	#heardAt = 0;
	#silenceMs = CONNECT_MS;
	// The server wants to know of one in so many events when they came.
	#receiptsOneIn = 0;
	/** @type {string[]} */
	#receipts = [];
	#toldAt = -RECEIPTS_MS;
	// How long a request and its answer take; unknown at first.
	#roundTripMs = Infinity;
	/** @type {number | undefined} */
	#watch;
	/** @type {number | undefined} */
	#renewal;
	/** @type {Map<string, Set<(value: any) => void>>} */
	#listeners = new Map();

	/** @param {StreamOptions} options */
	constructor({ url, topics = [], token = () => null, withCredentials = false }) {
		this.#url = url.replace(/\/$/, "");
		this.#token = token;
		this.#credentials = withCredentials;
		this.#wanted = new Set(topics);
		addEventListener("online", this.#check);
		globalThis.document?.addEventListener("visibilitychange", this.#check);
		this.#open();
	}

	/**
	 * "connecting", "catching up" while it gets what it missed, "open", "lost" while it tries to
	 * connect again, or "closed".
	 */
	get state() {
		return this.#state;
	}

	/** What is to be watched, now or once it is connected. */
	get topics() {
		return [...new Set([...this.#wanted, ...this.#given])].sort();
	}

	/**
	 * Watches more topics, on the same stream.
	 *
	 * @param {...string} topics
	 * @returns {Promise<boolean>} once they are watched: true when all that is published from now on
	 *   will come, false where the server cannot promise that yet; rejected if it refuses them
	 */
	subscribe(...topics) {
		for (const topic of topics) {
			this.#wanted.add(topic);
			this.#left.delete(topic);
		}
		return this.#changed(topics);
	}

	/**
	 * Watches these no longer; none of their events comes from now on.
	 *
	 * @param {...string} topics
	 */
	unsubscribe(...topics) {
		for (const topic of topics) {
			this.#wanted.delete(topic);
			this.#given.delete(topic);
			this.#places.delete(topic);
			if (this.#held.has(topic)) this.#left.add(topic);
		}
		return this.#changed(topics);
	}

	/**
	 * Calls `listener` with the events of a type, or of all: "*". Call what it returns to end that;
	 * so it is with the listeners below.
	 *
	 * @template [Data=any]
	 * @param {string} type
	 * @param {(event: StreamEvent<Data>) => void} listener
	 */
	onEvent(type, listener) {
		return this.#on(`event ${type}`, listener);
	}

	/**
	 * Calls `listener` when events were lost, and after a reconnect for all topics of which the
	 * stream does not go on where it was.
	 *
	 * @param {(gap: Gap) => void} listener
	 */
	onGap(listener) {
		return this.#on("gap", listener);
	}

	/**
	 * Calls `listener` with each new state; "open" comes after every reconnect.
	 *
	 * @param {(state: StreamState) => void} listener
	 */
	onState(listener) {
		return this.#on("state", listener);
	}

	/**
	 * Calls `listener` when the token has expired, before another is asked for.
	 *
	 * @param {() => void} listener
	 */
	onExpired(listener) {
		return this.#on("expired", listener);
	}

	/**
	 * Calls `listener` when the server has added or removed topics: by the backend, or because a new
	 * token does not grant them.
	 *
	 * @param {(change: TopicsChange) => void} listener
	 */
	onTopics(listener) {
		return this.#on("topics", listener);
	}

	/**
	 * Calls `listener` when the backend has ended the stream. Unless it connects again by itself, it
	 * is closed then.
	 *
	 * @param {(disconnection: Disconnection) => void} listener
	 */
	onDisconnected(listener) {
		return this.#on("disconnected", listener);
	}

	/** Connects anew, for example as another member. */
	reconnect() {
		if (this.#state === "closed") return;
		this.#become("connecting");
		this.#open();
	}

	/** Ends the stream for good. */
	close() {
		this.#drop();
		removeEventListener("online", this.#check);
		globalThis.document?.removeEventListener("visibilitychange", this.#check);
		for (const { resolve } of this.#waiting.splice(0)) resolve(false);
		this.#become("closed");
	}

	/**
	 * @param {string} what
	 * @param {(value: any) => void} listener
	 */
	#on(what, listener) {
		const listeners = this.#listeners.get(what) ?? new Set();
		this.#listeners.set(what, listeners.add(listener));
		return () => listeners.delete(listener);
	}

	/**
	 * @param {string} what
	 * @param {unknown} [value]
	 */
	#tell(what, value) {
		for (const listener of this.#listeners.get(what) ?? []) {
			try {
				listener(value);
			} catch (error) {
				// One bad listener does not hurt the others.
				reportError(error);
			}
		}
	}

	/** @param {StreamState} state */
	#become(state) {
		this.#state = state;
		this.#tell("state", state);
	}

	async #open() {
		this.#drop();
		const opening = this.#openings;
		/** @type {string | null} */
		let token;
		try {
			token = await this.#token();
		} catch (error) {
			reportError(error);
			if (opening === this.#openings) this.#lose();
			return;
		}
		if (opening !== this.#openings) return;
		const query = new URLSearchParams({ heartbeat: "event" });
		if (token) query.set("token", token);
		// After a refusal they go by a request, whose answer tells which is wrong.
		for (const topic of this.#isRefused ? [] : this.#wanted) {
			query.append("topic", topic);
			const place = this.#places.get(topic);
			if (place) query.append("since", place.text);
			if (`${query}`.length > QUERY_CHARACTERS) break;
		}
		const source = new EventSource(`${this.#url}/connect?${query}`, {
			withCredentials: this.#credentials,
		});
		/** @type {(name: string, take: (data: any) => void) => void} */
		const on = (name, take) =>
			source.addEventListener(name, ({ data }) => {
				this.#heardAt = performance.now();
				take(JSON.parse(data));
			});
		on("message", (event) => this.#received(event));
		on("connected", (told) => this.#connected(told));
		on("gap", (gap) => this.#gap(gap));
		on("expired", () => {
			this.#tell("expired");
			this.#open();
		});
		on("topics", (change) => this.#changedThere(change));
		on("disconnected", (told) => this.#disconnected(told));
		on("busy", () => (this.#isBusy = true));
		on("heartbeat", () => {});
		source.onerror = () => this.#failed(source.url);
		this.#source = source;
		this.#listen(CONNECT_MS);
	}

	/**
	 * Gives the stream up if nothing comes for so long. A proxy may keep it open and pass nothing on.
	 *
	 * @param {number} silenceMs
	 */
	#listen(silenceMs) {
		this.#silenceMs = silenceMs;
		this.#heardAt = performance.now();
		clearTimeout(this.#watch);
		const watch = () => {
			const leftMs = this.#heardAt + this.#silenceMs - performance.now();
			if (leftMs <= 0) this.#lose();
			else this.#watch = setTimeout(watch, leftMs);
		};
		watch();
	}

	#drop() {
		this.#openings++;
		clearTimeout(this.#timer);
		clearTimeout(this.#watch);
		clearTimeout(this.#renewal);
		this.#source?.close();
		this.#connection = null;
	}

	/** @param {{ connection: string, topics: string[], pending?: string[], resumed?: string[], lost?: string[], heads?: Record<string, string>, heartbeat_seconds: number, receipts_one_in?: number, expires_in_seconds?: number }} told */
	#connected(told) {
		this.#isRefused = this.#isBusy = false;
		this.#receiptsOneIn = told.receipts_one_in ?? 0;
		this.#listen(told.heartbeat_seconds * 1000 * MISSED_HEARTBEATS);
		this.#connection = told.connection;
		this.#held = new Set(told.topics);
		this.#given = new Set(told.topics.filter((topic) => this.#isGiven(topic)));
		this.#unsure.clear();
		this.#sequence = 0;
		this.#failures = 0;
		this.#resume(told);
		if (told.expires_in_seconds !== undefined) this.#renewBefore(told.expires_in_seconds * 1000);
		// The browser reconnects with the topics that it began with.
		this.#sync(told.pending);
	}

	/** @param {{ resumed?: string[], lost?: string[], heads?: Record<string, string> }} told */
	#resume({ resumed = [], lost = [], heads = {} }) {
		this.#ahead.clear();
		for (const [topic, text] of Object.entries(heads)) {
			const [head, place] = [placeOf(text), this.#places.get(topic)];
			if (place && resumed.includes(topic) && isBefore(place, head)) this.#ahead.set(topic, head);
			else if (!resumed.includes(topic) && !lost.includes(topic)) this.#places.set(topic, head);
		}
		// Of the others that were lost the server tells by itself.
		const topics = [...this.#before].filter(
			(topic) => !resumed.includes(topic) && !lost.includes(topic) && this.#wanted.has(topic),
		);
		this.#before = new Set(this.#wanted);
		if (topics.length) this.#gap({ lost: null, topics });
	}

	/** @param {Gap} gap */
	#gap(gap) {
		for (const topic of gap.topics) this.#ahead.delete(topic);
		this.#tell("gap", gap);
		this.#caughtUp();
	}

	#caughtUp() {
		if (this.#state === "catching up" && !this.#ahead.size) this.#become("open");
	}

	/** @param {string} topic */
	#isGiven(topic) {
		return !this.#wanted.has(topic) && !this.#left.has(topic);
	}

	/** @param {TopicsChange} change */
	#changedThere({ added, removed }) {
		for (const topic of added) {
			this.#held.add(topic);
			this.#left.delete(topic);
			if (this.#isGiven(topic)) this.#given.add(topic);
		}
		for (const topic of removed) {
			for (const topics of [this.#held, this.#given, this.#wanted, this.#places]) {
				topics.delete(topic);
			}
		}
		if (added.length || removed.length) this.#tell("topics", { added, removed });
	}

	/** @param {Disconnection} told */
	#disconnected(told) {
		if (told.reconnect) this.#lose();
		else this.close();
		this.#tell("disconnected", told);
	}

	/**
	 * Replaces the token before it expires. Pages that connected together do not do it together.
	 *
	 * @param {number} leftMs
	 */
	#renewBefore(leftMs) {
		clearTimeout(this.#renewal);
		if (leftMs < RENEW_MIN_MS) return;
		const share = RENEW_FROM + Math.random() * (RENEW_TO - RENEW_FROM);
		const expiresAt = performance.now() + leftMs;
		this.#renewal = setTimeout(() => this.#renew(expiresAt), Math.min(leftMs * share, TIMER_MS));
	}

	/**
	 * Gives the server a new token for the open stream.
	 *
	 * @param {number} expiresAt when the last one expires
	 */
	async #renew(expiresAt) {
		const connection = this.#connection;
		if (!connection) return;
		/** @type {string | null} */
		let token = null;
		try {
			token = await this.#token();
		} catch (error) {
			reportError(error);
		}
		const [response, answer] = token
			? await this.#fetch(`connections/${encodeURIComponent(connection)}/token`, {
					method: "POST",
					headers: { "Content-Type": "application/json" },
					body: JSON.stringify({ token }),
				})
			: [];
		if (connection !== this.#connection) return;
		if (response?.ok) {
			const added = answer.topics.filter((/** @type {string} */ topic) => !this.#held.has(topic));
			this.#changedThere({ added, removed: answer.removed });
			this.#renewBefore(answer.expires_in_seconds * 1000);
		} else if (response?.status === 403) this.reconnect();
		else if (response?.status === 404) this.#lose();
		else this.#renewBefore(expiresAt - performance.now());
	}

	/** @param {string} url */
	async #failed(url) {
		this.#connection = null;
		// The browser waits for as long as the server says.
		clearTimeout(this.#watch);
		clearTimeout(this.#renewal);
		const opening = this.#openings;
		if (this.#state !== "lost") this.#become("lost");
		if (opening !== this.#openings) return;
		if (this.#source?.readyState !== EventSource.CLOSED) {
			// The browser tries again by itself, when it was told to. It knows one position only.
			if (this.#isBusy || !this.#places.size) return;
			this.#drop();
			this.#retry(() => this.#open());
			return;
		}
		// An EventSource does not tell why it was refused.
		const status = await fetch(url, { ...this.#options(), method: "HEAD" }).then(
			(response) => response.status,
			() => 0,
		);
		if (opening !== this.#openings) return;
		this.#isRefused = status >= 400 && status < 500;
		if (status === 204) this.#disconnected({ reason: "", reconnect: false });
		else this.#retry(() => this.#open());
	}

	#lose() {
		this.#drop();
		this.#become("lost");
		this.#retry(() => this.#open());
	}

	/** @param {() => void} again */
	#retry(again) {
		const longest = Math.min(RETRY_MIN_MS * 2 ** this.#failures++, RETRY_MAX_MS);
		clearTimeout(this.#timer);
		this.#timer = setTimeout(again, longest * (0.5 + Math.random() / 2));
	}

	/** @param {StreamEvent} event */
	#received(event) {
		// What was on its way when its topic was given up.
		if (!this.#wanted.has(event.topic) && !this.#given.has(event.topic)) return;
		if (event.position && !this.#moveTo(event.topic, placeOf(event.position))) return;
		if (this.#receiptsOneIn && crc32(event.id) * this.#receiptsOneIn < 2 ** 32) this.#note(event.id);
		this.#tell(`event ${event.type}`, event);
		this.#tell("event *", event);
		this.#caughtUp();
	}

	/**
	 * Notes the place of an event; returns whether it is a new one.
	 *
	 * @param {string} topic
	 * @param {Place} place
	 */
	#moveTo(topic, place) {
		const before = this.#places.get(topic);
		if (before?.tag === place.tag && !isBefore(before, place)) return false;
		this.#places.set(topic, place);
		const head = this.#ahead.get(topic);
		if (head && !isBefore(place, head)) this.#ahead.delete(topic);
		return true;
	}

	/**
	 * Tells the server at once that an event has come. What comes too soon after that is not told:
	 * the server takes the time of the request for that of the event.
	 *
	 * @param {string} id
	 */
	#note(id) {
		const now = performance.now();
		if (!this.#receipts.length) {
			if (now - this.#toldAt < RECEIPTS_MS) return;
			this.#toldAt = now;
			// Events that came together are told together.
			setTimeout(() => this.#tellReceived());
		}
		this.#receipts.push(id);
	}

	async #tellReceived() {
		// The first request finds out how long one takes.
		const events = this.#roundTripMs < Infinity ? this.#receipts.slice(0, 100) : [];
		this.#receipts = [];
		const connection = this.#connection;
		if (!connection) return;
		const began = performance.now();
		const [response] = await this.#fetch("received", {
			method: "POST",
			headers: { "Content-Type": "application/json" },
			body: JSON.stringify({
				connection,
				round_trip_ms: events.length ? this.#roundTripMs : 0,
				events,
			}),
		});
		// The shortest of all: others have waited for something else.
		if (response) this.#roundTripMs = Math.min(this.#roundTripMs, performance.now() - began);
	}

	/**
	 * @param {string[]} topics
	 * @returns {Promise<boolean>}
	 */
	#changed(topics) {
		// Several changes at once make one request.
		queueMicrotask(() => this.#sync());
		return new Promise((resolve, reject) => this.#waiting.push({ topics, resolve, reject }));
	}

	/**
	 * Changes the topics at the server until it has those that are wanted.
	 *
	 * @param {string[]} pending
	 */
	async #sync(pending = []) {
		const connection = this.#connection;
		if (!connection || this.#changing === connection) return;
		this.#changing = connection;
		let change;
		while ((change = this.#difference())) {
			const answer = await this.#request(connection, change);
			if (connection !== this.#connection) return;
			if (!answer) break;
			pending = answer.pending ?? [];
		}
		this.#changing = null;
		this.#atOnce = Infinity;
		if (change) return;
		for (const { topics, resolve } of this.#waiting.splice(0)) {
			resolve(!topics.some((topic) => pending.includes(topic)));
		}
		if (this.#settled === connection) return;
		this.#settled = connection;
		this.#become(this.#ahead.size ? "catching up" : "open");
	}

	#difference() {
		const [wanted, held, unsure] = [this.#wanted, this.#held, this.#unsure];
		const missing = [...wanted].filter((topic) => !held.has(topic) || unsure.has(topic));
		const add = missing.slice(0, this.#atOnce);
		const remove = [...new Set([...held, ...unsure])].filter(
			(topic) => !wanted.has(topic) && !this.#given.has(topic),
		);
		return add.length || remove.length ? { add, remove } : null;
	}

	/**
	 * Makes a change, and returns the answer; null if that has to be done again later.
	 *
	 * @param {string} connection
	 * @param {{ add: string[], remove: string[] }} change
	 */
	async #request(connection, change) {
		const [response, answer] = await this.#fetch(topicsOf(connection), {
			method: "POST",
			headers: { "Content-Type": "application/json" },
			body: JSON.stringify({ ...change, sequence: ++this.#sequence }),
		});
		if (connection !== this.#connection) return null;
		if (response?.ok) {
			this.#held = new Set(answer.topics);
			this.#unsure.clear();
			this.#failures = 0;
			return answer;
		}
		if (response && response.status !== 404 && response.status < 500 && change.add.length) {
			if (change.add.length > 1) this.#atOnce = 1;
			else this.#refuse(change.add[0], answer.message);
			return {};
		}
		if (response?.status === 404) this.#lose();
		else {
			// It may have been made, or be made later: the frontend of the stream may be paused.
			for (const topic of [...change.add, ...change.remove]) this.#unsure.add(topic);
			this.#retry(() => this.#sync());
		}
		return null;
	}

	/**
	 * @param {string} path
	 * @param {RequestInit} [options]
	 * @returns {Promise<[Response, any] | []>}
	 */
	async #fetch(path, options) {
		try {
			const response = await fetch(`${this.#url}/${path}`, { ...options, ...this.#options() });
			return [response, await response.json()];
		} catch {
			return [];
		}
	}

	/** @returns {RequestInit} */
	#options() {
		return {
			credentials: this.#credentials ? "include" : "omit",
			signal: AbortSignal.timeout(REQUEST_MS),
		};
	}

	/**
	 * @param {string} topic
	 * @param {string} message
	 */
	#refuse(topic, message) {
		this.#wanted.delete(topic);
		for (const { topics, reject } of this.#waiting) {
			if (topics.includes(topic)) reject(new Error(message));
		}
	}

	/** After a sleep the browser may not know that the connection is gone. */
	#check = async () => {
		const connection = this.#connection;
		if (!connection || globalThis.document?.hidden) return;
		const [response] = await this.#fetch(topicsOf(connection));
		if (connection === this.#connection && (!response || response.status === 404)) this.#lose();
	};
}

/** @typedef {{ text: string, number: number, tag: string }} Place */

/**
 * @param {string} text a position
 * @returns {Place}
 */
function placeOf(text) {
	const [, number, tag] = text.split("-");
	return { text, number: Number(number), tag };
}

/**
 * @param {Place} place
 * @param {Place} other
 */
function isBefore(place, other) {
	return place.tag === other.tag && place.number < other.number;
}

/** @param {string} connection */
function topicsOf(connection) {
	return `connections/${encodeURIComponent(connection)}/topics`;
}

/**
 * The checksum that chooses the events of which the server wants to know; ids are ASCII.
 *
 * @param {string} text
 */
function crc32(text) {
	let sum = -1;
	for (let index = 0; index < text.length; index++) {
		sum ^= text.charCodeAt(index);
		for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (0xedb88320 & -(sum & 1));
	}
	return ~sum >>> 0;
}
