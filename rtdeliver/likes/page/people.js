/** The members: who is there, and the chat with one of them. */

import { byId, Log, make, nameTag, utterance } from "./dom.js";

// Each has two topics, and a connection has a hundred.
const LISTED = 40;

export class People {
	#me = null;
	#partner = null;
	#members = new Map();
	#log = new Log(byId("messages"));
	#actions;

	/**
	 * @param {object} actions - `load(member)` gives the messages with a member; `see(member, number)`
	 *   tells that those up to one were seen; `changed()` hears that others are listed
	 */
	constructor(actions) {
		this.#actions = actions;
		byId("back").onclick = () => this.close();
		document.addEventListener("visibilitychange", () => this.#see());
	}

	/** With whom the visitor chats, or null. */
	get partner() {
		return this.#partner;
	}

	get names() {
		return [...this.#members.keys()];
	}

	/** Says who the visitor is. */
	become(member) {
		this.#me = member;
		this.close();
		for (const entry of this.#members.values()) entry.unseen = 0;
		if (member) this.add(member);
		this.#render();
	}

	/** Lists a member; `online` is null while nobody knows. */
	add(member, online = null) {
		if (this.#members.has(member)) return;
		if (this.#members.size >= LISTED && !this.#makeRoom()) return;
		this.#members.set(member, { online, unseen: 0 });
		this.#actions.changed();
		this.#render();
	}

	/** Takes over who was seen last, and with whom there are conversations. */
	load(members, conversations) {
		for (const { member } of [...conversations, ...members].slice(0, LISTED / 2)) this.add(member);
		for (const { member, unseen } of conversations) this.#note(member, { unseen });
		for (const { member, online } of members) this.#note(member, { online });
	}

	presence(member, online) {
		this.#note(member, { online });
	}

	/** Opens the chat with a member. */
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

	/** Takes a message to or of the visitor; `untold` is one that was only stored. */
	message(message, untold = false) {
		const other = message.from === this.#me ? message.to : message.from;
		if (other === this.#partner) {
			this.#add(message, untold);
			this.#see();
		} else if (other === message.from) {
			this.add(other);
			this.#note(other, { unseen: (this.#members.get(other)?.unseen ?? 0) + 1 });
		}
	}

	/** Notes that messages with `member` were seen: by it, or by the visitor in another tab. */
	seen(member, { by, message }) {
		if (by === this.#me) this.#note(member, { unseen: 0 });
		else if (by === this.#partner) this.#tick((number, item) => item.mine && number <= message);
	}

	#add(message, untold) {
		const number = message.message;
		if (!this.#log.has(number)) {
			const item = make("li", { mine: message.from === this.#me }, ...utterance(message, untold));
			if (item.mine) {
				item.className = "mine";
				item.append(make("span", { className: "ticks", role: "img", ariaLabel: "Sent", textContent: "✓" }));
			}
			this.#log.add(number, item);
		}
		if (message.seen) this.#tick((other) => other === number);
	}

	/** Marks as seen the messages that `choose` takes, and returns the numbers of those that were not. */
	#tick(choose) {
		const fresh = [...this.#log].filter(([number, item]) => !item.seen && choose(number, item));
		for (const [, item] of fresh) {
			item.seen = true;
			if (item.mine) {
				Object.assign(item.lastChild, { className: "ticks seen", ariaLabel: "Seen", textContent: "✓✓" });
			}
		}
		return fresh.map(([number]) => number);
	}

	/** Tells the partner that its messages have been seen, if they have. */
	#see() {
		if (!this.#partner || document.hidden) return;
		const fresh = this.#tick((_, item) => !item.mine);
		if (fresh.length) this.#actions.see(this.#partner, Math.max(...fresh));
		this.#note(this.#partner, { unseen: 0 });
	}

	#note(member, changes) {
		const entry = this.#members.get(member);
		if (!entry) return;
		Object.assign(entry, changes);
		this.#render();
	}

	#makeRoom() {
		// Whoever has been listed for longest of those who are away and have said nothing new.
		const idle = ([member, { online, unseen }]) =>
			!online && !unseen && member !== this.#partner && member !== this.#me;
		const first = [...this.#members].find(idle);
		return first && this.#members.delete(first[0]);
	}

	#show(chat) {
		byId("list").hidden = chat;
		byId("chat").hidden = !chat;
		this.#render();
	}

	#focus(member) {
		document.querySelector(`[data-member="${CSS.escape(member)}"] button`)?.focus();
	}

	#render() {
		const rank = ([member, { online, unseen }]) =>
			4 * (member === this.#me) + 2 * (unseen > 0) + (online === true);
		const sorted = [...this.#members].sort((a, b) => rank(b) - rank(a) || (a[0] < b[0] ? -1 : 1));
		const focused = document.activeElement.closest("[data-member]")?.dataset.member;
		byId("members").replaceChildren(...sorted.map(([member, entry]) => this.#item(member, entry)));
		if (focused) this.#focus(focused);
		byId("chat").dataset.online = this.#members.get(this.#partner)?.online ?? "unknown";
	}

	#item(member, { online, unseen }) {
		const status = online === null ? "unknown" : online ? "online" : "offline";
		const dot = make("i", { className: "dot", role: "img", title: status, ariaLabel: status });
		const label = make("span", {}, dot, nameTag(member));
		const item = make("li", {}, label);
		item.dataset.member = member;
		item.dataset.online = online ?? "unknown";
		if (member === this.#me) {
			item.append(make("small", { textContent: "you" }));
		} else if (this.#me) {
			const button = make("button", { className: "quiet" }, label);
			button.onclick = () => this.open(member);
			if (unseen) {
				const ariaLabel = `${unseen} new`;
				button.append(make("span", { className: "count", role: "img", ariaLabel, textContent: unseen }));
			}
			item.append(button);
		}
		return item;
	}
}
