/** The list of members, who of them is online, and the chat with one of them. */

import { byId, Log, make, nameTag, utterance } from "./dom.js";

// Each member takes two topics, and a connection may watch a hundred.
const LISTED = 40;

export class People {
	/** @type {string | null} */
	#me = null;
	/** @type {string | null} */
	#partner = null;
	/** @type {Map<string, Entry>} */
	#members = new Map();
	/** @type {Log<MessageItem>} */
	#log = new Log(byId("messages"));
	#actions;

	/**
	 * @param {object} actions
	 * @param {(member: string) => Promise<Message[] | undefined>} actions.load - loads the messages with a member
	 * @param {(member: string, message: number) => void} actions.see - stores that the messages up to one were seen
	 * @param {() => void} actions.changed - called when the list has other members
	 */
	constructor(actions) {
		this.#actions = actions;
		byId("back").onclick = () => this.close();
		document.addEventListener("visibilitychange", () => this.#see());
	}

	/** The member of the open chat, or null. */
	get partner() {
		return this.#partner;
	}

	get names() {
		return [...this.#members.keys()];
	}

	/**
	 * Sets who the visitor is.
	 *
	 * @param {string | null} member
	 */
	become(member) {
		this.#me = member;
		this.close();
		// Anonymous visitors have no buttons, and members none to themselves.
		for (const entry of this.#members.values()) Object.assign(entry, { unseen: 0, item: undefined });
		if (member) this.add(member);
		this.#render();
	}

	/**
	 * Lists a member; `online` is null if that is unknown.
	 *
	 * @param {string} member
	 * @param {boolean | null} online
	 */
	add(member, online = null) {
		if (this.#members.has(member)) return;
		if (this.#members.size >= LISTED && !this.#makeRoom()) return;
		this.#members.set(member, { online, toldAt: -Infinity, unseen: 0 });
		this.#actions.changed();
		this.#render();
	}

	/**
	 * Lists the members who were seen last, and those with whom the visitor has conversations.
	 *
	 * @param {Member[]} members
	 * @param {Conversation[]} conversations
	 * @param {number} askedAt - when the backend was asked for them, by `performance.now()`
	 */
	load(members, conversations, askedAt) {
		for (const { member } of [...conversations, ...members].slice(0, LISTED / 2)) this.add(member);
		for (const { member, unseen } of conversations) this.#note(member, { unseen });
		for (const { member, online } of members) {
			// What an event has told since may be newer than the answer.
			const known = (this.#members.get(member)?.toldAt ?? askedAt) >= askedAt;
			if (!known && online !== null) this.#note(member, { online });
		}
	}

	/**
	 * @param {string} member
	 * @param {boolean} online
	 */
	presence(member, online) {
		this.#note(member, { online, toldAt: performance.now() });
	}

	/**
	 * Opens the chat with a member.
	 *
	 * @param {string} member
	 */
	async open(member) {
		this.#partner = member;
		this.#log.clear();
		byId("chat-name").replaceChildren(nameTag(member));
		this.#show(true);
		byId("tell-text").focus();
		await this.reload();
	}

	/** Loads the messages of the open chat. */
	async reload() {
		const partner = this.#partner;
		const messages = partner && (await this.#actions.load(partner));
		if (!messages || partner !== this.#partner) return;
		for (const message of messages) this.#add(message);
		this.#see();
	}

	close() {
		if (!this.#partner) return;
		const member = this.#partner;
		this.#partner = null;
		this.#show(false);
		this.#focus(member);
	}

	/**
	 * Takes a message to or from the visitor; `undelivered` is one that was stored only.
	 *
	 * @param {Message} message
	 */
	message(message, undelivered = false) {
		const other = message.from === this.#me ? message.to : message.from;
		if (other === this.#partner) {
			this.#add(message, undelivered);
			this.#see();
		} else if (other === message.from) {
			this.add(other);
			this.#note(other, { unseen: (this.#members.get(other)?.unseen ?? 0) + 1 });
		}
	}

	/**
	 * Notes that `member`, or the visitor in another tab, has seen messages of their chat.
	 *
	 * @param {string} member
	 * @param {Seen} seen
	 */
	seen(member, { by, message }) {
		if (by === this.#me) this.#note(member, { unseen: 0 });
		else if (by === this.#partner) this.#tick((number, item) => item.mine && number <= message);
	}

	/** @param {Message} message */
	#add(message, undelivered = false) {
		const number = message.message;
		if (!this.#log.has(number)) {
			const item = Object.assign(make("li", {}, ...utterance(message, undelivered)), {
				mine: message.from === this.#me,
				seen: false,
			});
			if (item.mine) {
				item.className = "mine";
				item.append(make("span", { className: "ticks", role: "img", ariaLabel: "Sent", textContent: "✓" }));
			}
			this.#log.add(number, item);
		}
		if (message.seen) this.#tick((other) => other === number);
	}

	/**
	 * Marks the messages that `choose` accepts as seen; returns the numbers of those that were unseen.
	 *
	 * @param {(number: number, item: MessageItem) => boolean} choose
	 */
	#tick(choose) {
		const fresh = [...this.#log].filter(([number, item]) => !item.seen && choose(number, item));
		for (const [, item] of fresh) {
			item.seen = true;
			if (item.mine) {
				const ticks = /** @type {Element} */ (item.lastChild);
				Object.assign(ticks, { className: "ticks seen", ariaLabel: "Seen", textContent: "✓✓" });
			}
		}
		return fresh.map(([number]) => number);
	}

	/** Marks the partner's messages as seen if the visitor sees them, and reports that. */
	#see() {
		if (!this.#partner || document.hidden) return;
		const fresh = this.#tick((_, item) => !item.mine);
		if (fresh.length) this.#actions.see(this.#partner, Math.max(...fresh));
		this.#note(this.#partner, { unseen: 0 });
	}

	/**
	 * @param {string} member
	 * @param {Partial<Entry>} changes
	 */
	#note(member, changes) {
		const entry = this.#members.get(member);
		if (!entry) return;
		Object.assign(entry, changes);
		this.#render();
	}

	#makeRoom() {
		// Removes a member who is not online and has sent nothing new: the one listed for longest.
		/** @type {(listed: [string, Entry]) => boolean} */
		const idle = ([member, { online, unseen }]) =>
			!online && !unseen && member !== this.#partner && member !== this.#me;
		const first = [...this.#members].find(idle);
		return first && this.#members.delete(first[0]);
	}

	/** @param {boolean} chat */
	#show(chat) {
		byId("list").hidden = chat;
		byId("chat").hidden = !chat;
		this.#render();
	}

	/** @param {string} member */
	#focus(member) {
		/** @type {HTMLElement | null} */
		const button = document.querySelector(`[data-member="${CSS.escape(member)}"] button`);
		button?.focus();
	}

	/** Shows the members in order. An item that stays where it is keeps its elements: it may be under a click. */
	#render() {
		/** @type {(listed: [string, Entry]) => number} */
		const rank = ([member, { online, unseen }]) =>
			4 * Number(member === this.#me) + 2 * Number(unseen > 0) + Number(online === true);
		const sorted = [...this.#members].sort((a, b) => rank(b) - rank(a) || (a[0] < b[0] ? -1 : 1));
		/** @type {HTMLElement | null | undefined} */
		const focused = document.activeElement?.closest("[data-member]");
		const list = byId("members");
		let next = list.firstElementChild;
		for (const [member, entry] of sorted) {
			entry.item ??= this.#item(member);
			this.#update(entry.item, entry);
			// Usually one item has moved: if it went down, those after it stay.
			if (next !== entry.item && next?.nextElementSibling === entry.item) {
				next.remove();
				next = entry.item;
			}
			if (next === entry.item) next = next.nextElementSibling;
			else list.insertBefore(entry.item, next);
		}
		while (list.children.length > sorted.length) list.lastElementChild?.remove();
		if (focused?.dataset.member && !focused.contains(document.activeElement)) this.#focus(focused.dataset.member);
		const partner = this.#members.get(this.#partner ?? "");
		byId("chat").dataset.online = `${partner?.online ?? "unknown"}`;
	}

	/** @param {string} member */
	#item(member) {
		const dot = make("i", { className: "dot", role: "img" });
		const label = make("span", {}, dot, nameTag(member));
		const item = make("li");
		item.dataset.member = member;
		if (member === this.#me) {
			item.append(label, make("small", { textContent: "you" }));
		} else if (this.#me) {
			const button = make("button", { className: "quiet" }, label, make("span", { className: "count", role: "img" }));
			button.onclick = () => this.open(member);
			item.append(button);
		} else {
			item.append(label);
		}
		return item;
	}

	/**
	 * @param {HTMLElement} item
	 * @param {Entry} entry
	 */
	#update(item, { online, unseen }) {
		const status = online === null ? "unknown" : online ? "online" : "offline";
		item.dataset.online = `${online ?? "unknown"}`;
		Object.assign(item.querySelector(".dot") ?? {}, { title: status, ariaLabel: status });
		const count = { textContent: `${unseen}`, ariaLabel: `${unseen} new`, hidden: !unseen };
		Object.assign(item.querySelector(".count") ?? {}, count);
	}
}
