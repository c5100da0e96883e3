const find = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const show = (value) => (value === null || value === undefined ? "–" : typeof value === "number" ? number.format(value) : String(value));

const TILES = [
	["published", "Published a second"],
	["delivered", "Delivered a second"],
	["forwarded", "Forwarded a second"],
	["sent", "Sent a second"],
	["dropped", "Dropped a second"],
];
const FIGURES = {
	run_queue_actors: "actors that wait for a turn",
	reactor_lag_seconds: "lateness of the reactor, in seconds",
	mailbox_events: "events that wait",
	mailbox_bytes: "bytes that wait",
	subscriptions: "topics watched by all connections",
	topics: "topics with viewers",
	members: "members with streams",
	presence_changes: "changes of presence published",
	links: "links to frontends",
	uncertain_topics: "topics with uncertain routes",
	recent_events: "events whose repeats are recognized",
	waiting_connections: "connections without a stream",
	redis_connected: "Redis is connected",
	clock_offset_seconds: "clock offset, in seconds",
	records_waiting: "records that wait to be written",
	joined_partitions: "partitions joined here",
	joining_events: "events being joined",
};

/** A new element with its text and children. Texts from the server never become markup. */
function make(name, text = "", attributes = {}, ...children) {
	const element = document.createElement(name);
	if (text !== "") element.textContent = text;
	for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
	element.append(...children);
	return element;
}

/** A table; a column is [title, value of a row, whether it is a number, how a cell is made]. */
function table(columns, rows) {
	const head = make("tr", "", {}, ...columns.map(([title, , numeric]) => make("th", title, numeric ? { class: "number" } : {})));
	const body = rows.map((row) =>
		make("tr", "", {}, ...columns.map(([, value, numeric, cell]) => {
			const made = make("td", "", numeric ? { class: "number" } : {});
			made.append(cell ? cell(row) : show(value(row)));
			return made;
		})),
	);
	return make("table", "", {}, make("thead", "", {}, head), make("tbody", "", {}, ...body));
}

function fill(id, rows, columns) {
	find(id).hidden = !rows?.length;
	if (rows?.length) find(id).querySelector("div").replaceChildren(table(columns, rows));
}

function plot(values) {
	const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
	svg.setAttribute("viewBox", "0 0 119 100");
	svg.setAttribute("preserveAspectRatio", "none");
	svg.setAttribute("aria-hidden", "true");
	const most = Math.max(1, ...values);
	const points = values.map((value, index) => `${119 - (values.length - 1 - index)} ${100 - (value / most) * 96}`);
	if (points.length > 1) {
		const line = `M${points.join("L")}`;
		const start = 119 - (values.length - 1);
		for (const [kind, path] of [["area", `${line}L119 100L${start} 100Z`], ["line", line]]) {
			const drawn = document.createElementNS("http://www.w3.org/2000/svg", "path");
			drawn.setAttribute("class", kind);
			drawn.setAttribute("d", path);
			svg.append(drawn);
		}
	}
	return svg;
}

function duration(seconds) {
	const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
	const first = parts.findIndex(([size]) => seconds >= size);
	if (first < 0) return "0 s";
	return parts.slice(first, first + 2).map(([size, unit]) => {
		const count = Math.floor(seconds / size);
		seconds -= count * size;
		return count ? `${count} ${unit}` : "";
	}).join(" ").trim();
}

function tile(title, value, values, more = "", bad = false) {
	const made = make("section", "", { class: bad ? "tile bad" : "tile" }, make("small", title), make("b", value), make("small", more));
	if (values) made.append(plot(values));
	return made;
}

function tiles(status) {
	const made = [];
	if (status.connections !== undefined) {
		const share = status.connections / Math.max(1, status.connections_max);
		const section = tile("Connections", number.format(status.connections), null, `of ${compact.format(status.connections_max)} at most`, share > 0.9);
		section.append(make("div", "", { class: "meter", style: `--share: ${Math.min(1, share)}` }));
		made.push(section);
	}
	for (const [name, title] of TILES) {
		const values = status.history[name];
		if (values) made.push(tile(title, compact.format(status.per_second[name]), values, `most in 2 min: ${compact.format(Math.max(0, ...values))}`, name === "dropped" && status.per_second[name] > 0));
	}
	if (status.objective) {
		const { measured_ms, at_most_ms, share, met } = status.objective;
		made.push(tile("Objective", measured_ms === null ? "–" : `${number.format(measured_ms)} ms`, null, `${number.format(share * 100)} % of receipts within ${number.format(at_most_ms)} ms: ${measured_ms === null ? "no page tells" : met ? "met" : "missed"}`, !met));
	}
	find("tiles").replaceChildren(...made);
}

const percentiles = [
	["p50", (row) => row.p50_ms, true],
	["p90", (row) => row.p90_ms, true],
	["p99", (row) => row.p99_ms, true],
];

function topicColumns(topics) {
	const most = Math.max(1, ...topics.map((topic) => topic.viewers));
	return [
		["topic", () => "", false, (row) => make("span", row.topic, { class: "bar", style: `--share: ${row.viewers / most}; display: block` })],
		["viewers", (row) => row.viewers, true],
	];
}

function link(row) {
	// Only an address of a web page becomes a link.
	if (!/^https?:\/\//.test(row.url)) return row.node;
	return make("a", row.node, { href: `${row.url.replace(/\/$/, "")}/status` });
}

function render(status) {
	document.title = `${status.ready ? "" : "! "}${status.role} ${status.node}`;
	find("role").textContent = status.role;
	find("node").textContent = status.node;
	find("badge").textContent = status.ready ? "ready" : `not ready: ${status.missing.join("; ")}`;
	find("badge").className = status.ready ? "good" : "bad";
	find("uptime").textContent = `up ${duration(status.uptime_seconds)}`;
	find("versions").textContent = `rtdeliver ${status.version}, Python ${status.python}, Twisted ${status.twisted}`;
	tiles(status);
	find("frontends").querySelector("small").textContent = `${status.frontends?.length ?? 0} in this datacenter`;
	fill("frontends", status.frontends, [
		["node", (row) => row.node, false, link],
		["state", () => "", false, (row) => make("span", !row.answers ? "no answer" : row.ready ? "ready" : "not ready", { class: row.answers && row.ready ? "good" : "bad" })],
		["connections", (row) => row.connections, true],
		["at most", (row) => row.connections_max, true],
		["viewers", (row) => row.viewers, true],
		["topics", (row) => row.topics, true],
		["sent/s", (row) => row.sent_per_second, true],
		["dropped/s", (row) => row.dropped_per_second, true],
		["p90 sent, ms", (row) => row.sent_p90_ms, true],
		["lease, s", (row) => row.lease_seconds_left, true],
		["version", (row) => row.version],
	]);
	const ages = Object.entries(status.ages ?? {}).map(([stage, told]) => ({ stage, ...told }));
	fill("ages", ages, [["when it is", (row) => row.stage], ["events", (row) => row.count, true], ...percentiles]);
	fill("stages", status.stages, [
		["type", (row) => row.type],
		["from", (row) => `${row.from} ${row.origin}`.trim()],
		["to", (row) => `${row.to} ${row.target}`.trim()],
		["times", (row) => row.count, true],
		...percentiles,
	]);
	fill("completeness", status.completeness, [
		["type", (row) => row.type],
		...["published", "watched", "delivered", "sent", "received"].map((name) => [name, (row) => row[name], true]),
		["missing", () => "", true, (row) => make("span", show(row.missing), { class: row.missing ? "bad" : "" })],
	]);
	const topics = status.hot_topics?.length ? status.hot_topics : (status.topics ?? []);
	fill("topics", topics, topicColumns(topics));
	fill("links", [...(status.links ?? []), ...(status.peers ?? [])], [
		["to", (row) => row.to],
		["state", () => "", false, (row) => make("span", row.state.replace("_", " "), { class: row.state === "paused" ? "bad" : "" })],
		["events wait", (row) => row.waiting_events, true],
		["bytes wait", (row) => row.waiting_bytes, true],
		["failures", (row) => row.failures, true],
	]);
	const figures = status.figures.filter(({ name }) => FIGURES[name]);
	if (status.lease_seconds_left !== undefined) figures.unshift({ name: "lease", label: "lease at the dispatchers, seconds left", value: status.lease_seconds_left });
	fill("queues", figures, [
		["what", (row) => row.label ?? [FIGURES[row.name], row.actor, row.redis, row.dispatcher, row.status].filter(Boolean).join(" – ")],
		["value", (row) => (row.name === "redis_connected" ? (row.value ? "yes" : "no") : row.name.endsWith("_seconds") ? row.value.toFixed(3) : row.value), true],
	]);
	const lines = status.warnings.map(({ at, level, text, from }) =>
		make("li", "", {}, make("span", level, { class: "bad" }), ` ${text} `, make("small", `${new Date(at * 1000).toLocaleTimeString()} ${from}`)),
	);
	find("warnings").querySelector("ul").replaceChildren(...(lines.length ? lines : [make("li", "none since the start", { class: "soft" })]));
}

const source = { stream: null };

function watch() {
	source.stream?.close();
	source.stream = new EventSource("/status/stream");
	source.stream.onmessage = ({ data }) => {
		find("login").hidden = true;
		find("page").hidden = false;
		document.body.classList.remove("stale");
		render(JSON.parse(data));
	};
	source.stream.onerror = async () => {
		document.body.classList.add("stale");
		if (find("badge").textContent) {
			find("badge").textContent = "no answer";
			find("badge").className = "bad";
		}
		if (source.stream.readyState !== EventSource.CLOSED) return;
		// An EventSource does not say why it was refused.
		const answer = await fetch("/status", { headers: { Accept: "application/json" } }).catch(() => null);
		if (answer?.status === 401) {
			find("login").hidden = false;
			find("page").hidden = true;
			find("secret").focus();
		} else setTimeout(watch, 2000);
	};
}

find("login").querySelector("form").onsubmit = async (event) => {
	event.preventDefault();
	const headers = { Authorization: `Bearer ${find("secret").value}` };
	const answer = await fetch("/status/login", { method: "POST", headers }).catch(() => null);
	find("wrong").textContent = answer?.ok ? "" : answer?.status === 401 ? "That is not the secret." : "There is no answer.";
	if (answer?.ok) {
		find("secret").value = "";
		watch();
	}
};

watch();
