/** The comments on a video, and who is typing one. */

import { byId, Log, make, nameTag, utterance } from "./dom.js";

const TYPING_MS = 4_000;

export class Comments {
	#log = new Log(byId("comments"));
	/** @type {Map<string, number>} */
	#typing = new Map();

	clear() {
		this.#log.clear();
		for (const member of this.#typing.keys()) this.#stopTyping(member);
	}

	/**
	 * Shows a comment; `undelivered` is one that is stored, but that others did not get live.
	 *
	 * @param {VideoComment} comment
	 */
	add(comment, undelivered = false) {
		this.#stopTyping(comment.member);
		if (this.#log.has(comment.comment)) return;
		const item = make("li", {}, nameTag(comment.member), ...utterance(comment, undelivered));
		this.#log.add(comment.comment, item);
	}

	/**
	 * Shows for a while that a member is typing.
	 *
	 * @param {string} member
	 */
	typing(member) {
		clearTimeout(this.#typing.get(member));
		this.#typing.set(member, setTimeout(() => this.#stopTyping(member), TYPING_MS));
		this.#showTyping();
	}

	/** @param {string} member */
	#stopTyping(member) {
		clearTimeout(this.#typing.get(member));
		if (this.#typing.delete(member)) this.#showTyping();
	}

	#showTyping() {
		const names = [...this.#typing.keys()];
		const are = names.length > 1 ? "are" : "is";
		const who = names.slice(0, 3).join(", ");
		byId("typing").textContent = who && `${who} ${are} typing…`;
	}
}
