/** The page: connects its parts, and decides when to watch and to load what. */

import { Backend, path } from "./backend.js";
import { Comments } from "./comments.js";
import { byId, make, onSubmit } from "./dom.js";
import { clock, LatencyMeter, RateMeter } from "./meters.js";
import { People } from "./people.js";
import { connect } from "./rtdeliver.js";
import { lookOf } from "./scenes.js";
import { icon, SHAPES } from "./shapes.js";
import { Stage } from "./stage.js";

const RETRY_MS = 3_000;
const TYPING_MS = 2_000;
const NOTICE_MS = 7_000;
// Many pages learn of the same change at once, so each loads it after a random part of this time.
const SPREAD_MS = 2_000;
const MINUTE_MS = 60_000;
const MINUTES = 30;
const BARS = " ▁▂▃▄▅▆▇█";
const UNDELIVERED = "Saved, but not delivered live: others will see it when they reload.";
/** @type {Record<string, string>} */
const STATES = {
	connecting: "Connecting…",
	"catching up": "Catching up…",
	open: "Connected",
	lost: "Connection lost. Reconnecting…",
	closed: "Disconnected",
};

const backend = new Backend();
const stage = new Stage(byId("scene"), byId("air"));
const latency = new LatencyMeter();
const rate = new RateMeter();
const comments = new Comments();
const people = new People({
	load: async (member) => (await attempt(() => backend.get(path`/conversations/${member}`)))?.messages,
	see: (member, message) =>
		attempt(() => backend.post(path`/conversations/${member}/seen`, { message })),
	changed: async () => {
		await followTopics();
		// Finds out who came or went before their topics were watched.
		membersTimer ??= setTimeout(loadPeople, Math.random() * SPREAD_MS);
	},
});
/** @type {Map<string, string>} */
const videos = new Map();

/** @type {import("./rtdeliver.js").Stream} */
let stream;
/** @type {string} */
let video;
let loaded = false;
let likes = 0;
/** @type {Map<number, number>} */
let minutes = new Map();
/** @type {number | null} */
let nextFrame = null;
/** @type {number | undefined} */
let noticeTimer;
/** @type {number | null} */
let membersTimer = null;
/** @type {number | undefined} */
let videoTimer;

start();

async function start() {
	/** @type {[Settings, { videos: Video[] }]} */
	const [settings, listed] = await insist(() =>
		Promise.all([backend.get("/settings"), backend.get("/videos")]),
	);
	if (!backend.token) await attempt(() => backend.resume());
	attempt(() => clock.compare(async () => (await backend.get("/settings")).now));
	byId("join-name").maxLength = settings.name_characters;
	byId("say-text").maxLength = byId("tell-text").maxLength = settings.comment_characters;
	settings.reactions.filter((reaction) => reaction in SHAPES).forEach(addReaction);
	listed.videos.forEach(addVideo);
	const asked = new URLSearchParams(location.search).get("video") ?? "";
	show(videos.has(asked) ? asked : listed.videos[0].video);
	addForms(settings);
	become();
	stream = connect({ url: settings.frontend, topics: topics(), token: () => backend.token });
	listen();
	setInterval(showLikes, 500);
	setInterval(showFigures, 1_000);
}

function listen() {
	/** @type {(type: string, take: (data: any, topic: string) => unknown) => unknown} */
	const on = (type, take) => stream.onEvent(type, ({ data, topic }) => take(data, topic));
	stream.onEvent("*", ({ at }) => latency.note(at));
	on("like", liked);
	on("viewers", ({ viewers }) => showViewers(viewers));
	on("comment", commented);
	on("removed", ({ comment }) => comments.remove(comment));
	on("typing", ({ member }) => member !== backend.member && comments.typing(member));
	on("joined", ({ member }) => people.add(member, true));
	on("presence", ({ member, status }) => people.presence(member, status === "online"));
	on("message", (message) => people.message(message));
	on("seen", (seen, topic) => {
		const names = topic.slice("conv:".length).split(".");
		const other = names.find((name) => name !== backend.member);
		if (other) people.seen(other, seen);
	});
	stream.onGap(({ topics }) => {
		const lost = (/** @type {string} */ kind) => topics.some((topic) => topic.startsWith(kind));
		if (lost("comments:") || lost("live:")) soon(loadVideo);
		if (lost("conv:")) soon(() => people.reload());
		if (lost("conv:") || lost("presence:") || lost("members")) soon(loadPeople);
	});
	stream.onExpired(() => expire());
	stream.onDisconnected(({ reason }) => expire(`You were ${reason || "disconnected"}.`));
	stream.onState((state) => {
		byId("state").dataset.state = state;
		byId("state").textContent = STATES[state];
		if (state !== "open" || loaded) return;
		// The stream brings what is published from now on; this loads what was before.
		loaded = true;
		loadVideo();
		loadPeople();
		people.reload();
	});
}

/** @param {() => void} load */
function soon(load) {
	setTimeout(load, Math.random() * SPREAD_MS);
}

async function loadVideo() {
	clearTimeout(videoTimer);
	const asked = video;
	/** @type {VideoPage | null} */
	const page = await attempt(() => backend.get(path`/videos/${asked}`));
	if (asked !== video) return;
	if (!page) {
		videoTimer = setTimeout(loadVideo, RETRY_MS);
		return;
	}
	likes = Math.max(likes, page.likes);
	minutes = new Map(page.minutes.map((minute) => [minute.at, minute.likes]));
	comments.keep(page.comments);
	page.comments.forEach(commented);
	if (page.viewers !== null) showViewers(page.viewers);
	showLikes();
}

async function loadPeople() {
	membersTimer = null;
	const askedAt = performance.now();
	/** @type {{ members: Member[] } | null} */
	const found = await attempt(() => backend.get("/members"));
	const own = backend.member && (await attempt(() => backend.get("/conversations")));
	if (found) people.load(found.members, own?.conversations ?? [], askedAt);
	if (!found?.members.every(({ online }) => online !== null)) {
		membersTimer ??= setTimeout(loadPeople, RETRY_MS);
	}
}

function topics() {
	const me = backend.member;
	const others = me ? people.names.filter((name) => name !== me) : [];
	return [
		`live:${video}`,
		`comments:${video}`,
		"members",
		...(me ? people.names : []).map((name) => `presence:${name}`),
		...others.map((name) => `conv:${[me, name].sort().join(".")}`),
	];
}

/** Lets the open stream watch the topics of what the page shows. */
async function followTopics() {
	if (!stream) return;
	const wanted = topics();
	const held = stream.topics;
	stream.unsubscribe(...held.filter((topic) => !wanted.includes(topic)));
	await attempt(() => stream.subscribe(...wanted.filter((topic) => !held.includes(topic))));
}

// The video.

/** @param {Video} listed */
function addVideo({ video: name, title }) {
	videos.set(name, title);
	const canvas = make("canvas", { width: 128, height: 72 });
	const button = make("button", {}, canvas, title);
	button.dataset.video = name;
	button.onclick = async () => {
		show(name);
		history.replaceState(null, "", path`?video=${name}`);
		await followTopics();
		loadVideo();
	};
	byId("videos").append(button);
	stage.addThumbnail(canvas, name);
}

/** @param {string} name */
function show(name) {
	video = name;
	likes = 0;
	minutes.clear();
	rate.clear();
	comments.clear();
	stage.show(name);
	const title = videos.get(name) ?? "";
	byId("title").textContent = byId("scene").ariaLabel = document.title = title;
	byId("viewers").textContent = "";
	document.documentElement.style.setProperty("--hue", `${lookOf(name).hue}`);
	for (const button of byId("videos").querySelectorAll("button")) {
		button.ariaPressed = `${button.dataset.video === name}`;
	}
	showLikes();
}

/** @param {VideoComment} comment */
function commented(comment) {
	people.add(comment.member);
	comments.add(comment, buttonsOf(comment));
}

/**
 * Makes the buttons with which a moderator removes a comment or bans its member.
 *
 * @param {VideoComment} comment
 */
function buttonsOf({ comment, member }) {
	if (!backend.moderator) return [];
	const at = path`/videos/${video}/comments/${`${comment}`}`;
	/** @type {(label: string, ask: () => Promise<unknown>) => Node} */
	const button = (label, ask) =>
		make("button", { className: "quiet", onclick: () => attempt(ask) }, label);
	return [
		button("Remove", () => backend.delete(at)),
		button("Ban", () => backend.post(path`/members/${member}/ban`)),
	];
}

/** @param {Liked} like */
function liked({ reaction, likes: total }) {
	rate.note();
	minutes.set(thisMinute(), (minutes.get(thisMinute()) ?? 0) + 1);
	likes = Math.max(likes, total);
	stage.float(reaction);
	// All likes that come before the next frame are shown by one update.
	nextFrame ??= requestAnimationFrame(() => {
		nextFrame = null;
		byId("likes").textContent = likes.toLocaleString();
	});
}

/** @param {string} reaction */
function addReaction(reaction) {
	const { label } = SHAPES[reaction];
	const button = make("button", { title: label, ariaLabel: label }, icon(reaction));
	button.dataset.reaction = reaction;
	button.onclick = () => like(reaction);
	byId("reactions").append(button);
}

/** @param {string} reaction */
async function like(reaction) {
	const stored = await attempt(() => backend.post(path`/videos/${video}/likes`, { reaction }));
	if (!stored) return;
	// Usually the stream brings it, as it brings everybody's likes.
	if (stored.delivery === "failed" || stream.state !== "open") liked(stored);
	noticeFailure(stored);
}

// Who the visitor is, and what they write.

function become() {
	const { member } = backend;
	byId("me").hidden = byId("say").hidden = !member;
	byId("join").hidden = Boolean(member);
	byId("name").textContent = member ?? "";
	people.become(member);
	followTopics();
}

function expire(why = "Your session has ended.") {
	backend.forget();
	become();
	notice(why);
}

/** @param {Settings} settings */
function addForms({ crowd_likes_per_second: each, crowd_seconds: seconds }) {
	onSubmit(byId("join"), async (name) => {
		const password = byId("join-password");
		const entered = await attempt(() =>
			backend.enter(name, password.value).catch((error) => {
				password.hidden = error.cause !== 401;
				throw error;
			}),
		);
		if (!entered) return false;
		password.value = "";
		comments.clear();
		become();
		loaded = false;
		stream.reconnect();
		byId("say-text").focus();
		return true;
	});
	byId("leave").onclick = async () => {
		await attempt(() => backend.leave());
		expire();
		loaded = false;
		stream.reconnect();
	};
	/**
	 * @param {"say" | "tell"} form
	 * @param {() => string} at
	 * @param {(stored: any, undelivered: boolean) => void} take
	 */
	const takeText = (form, at, take) =>
		onSubmit(byId(form), async (text) => {
			const stored = await attempt(() => backend.post(at(), { text }));
			if (stored) take(stored, noticeFailure(stored));
			return stored;
		});
	takeText("say", () => path`/videos/${video}/comments`, ({ comment }, undelivered) =>
		comments.add(comment, buttonsOf(comment), undelivered),
	);
	takeText("tell", () => path`/conversations/${people.partner ?? ""}/messages`, ({ message }, undelivered) =>
		people.message(message, undelivered),
	);
	let typedAt = -Infinity;
	const field = byId("say-text");
	field.oninput = () => {
		if (!field.value || performance.now() - typedAt < TYPING_MS) return;
		typedAt = performance.now();
		backend.post(path`/videos/${video}/typing`).catch(() => {});
	};
	const crowd = byId("crowd");
	crowd.title = `Adds ${each} likes a second for ${seconds} s`;
	crowd.onclick = async () => {
		crowd.disabled = true;
		const come = await attempt(() => backend.post(path`/videos/${video}/crowd`));
		setTimeout(() => (crowd.disabled = false), come ? come.seconds * 1_000 : RETRY_MS);
	};
}

// What the page shows.

/** @param {number} viewers */
function showViewers(viewers) {
	byId("viewers").textContent = `${viewers.toLocaleString()} watching`;
}

/**
 * Returns whether others did not get live what was stored; if so, shows a notice.
 *
 * @param {Stored} stored
 */
function noticeFailure({ delivery }) {
	const failed = delivery === "failed";
	if (failed) notice(UNDELIVERED);
	return failed;
}

function thisMinute() {
	return Math.floor(clock.now() / MINUTE_MS) * MINUTE_MS;
}

function showLikes() {
	byId("likes").textContent = likes.toLocaleString();
	const often = rate.perSecond();
	byId("rate").textContent = often ? `${often.toFixed(often < 10 ? 1 : 0)} a second` : "";
	const begin = thisMinute() - (MINUTES - 1) * MINUTE_MS;
	const counts = Array.from({ length: MINUTES }, (_, i) => minutes.get(begin + i * MINUTE_MS) ?? 0);
	const most = Math.max(1, ...counts);
	byId("minutes").textContent = counts.map((n) => BARS[Math.ceil((n / most) * 8)]).join("");
}

function showFigures() {
	const [p50, p90] = [50, 90].map((percent) => latency.percentile(percent)?.toFixed());
	byId("figures").textContent = p50 ? `p50 ${p50} ms · p90 ${p90} ms` : "";
}

/** @param {string} text */
function notice(text) {
	const shown = byId("notice");
	shown.textContent = text;
	shown.hidden = false;
	clearTimeout(noticeTimer);
	noticeTimer = setTimeout(() => (shown.hidden = true), NOTICE_MS);
}

/**
 * Returns what `ask` returns. If it fails, shows the visitor why and returns null.
 *
 * @template Answer
 * @param {() => Promise<Answer>} ask
 */
async function attempt(ask) {
	try {
		return await ask();
	} catch (caught) {
		const error = /** @type {Error} */ (caught);
		if (error.cause === 401 && backend.member) expire();
		else notice(error.message);
		return null;
	}
}

/**
 * Asks again and again until there is an answer.
 *
 * @template Answer
 * @param {() => Promise<Answer>} ask
 */
async function insist(ask) {
	let answer;
	while (!(answer = await attempt(ask))) {
		await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
	}
	return answer;
}
