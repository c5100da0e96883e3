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
	 * @param {Node[]} buttons - what a moderator may do
	 */
	add(comment, buttons, undelivered = false) {
		this.#stopTyping(comment.member);
		if (this.#log.has(comment.comment)) return;
		const parts = [...utterance(comment, undelivered), ...buttons];
		const item = make("li", {}, nameTag(comment.member), ...parts);
		this.#log.add(comment.comment, item);
	}

	/** @param {number} comment */
	remove(comment) {
		this.#log.remove(comment);
	}

	/**
	 * Removes the comments that were removed meanwhile.
	 *
	 * @param {VideoComment[]} listed - the last ones, in order
	 */
	keep(listed) {
		const last = listed.at(-1)?.comment ?? 0;
		for (const [number] of this.#log) {
			const isAmong = number >= listed[0]?.comment && number <= last;
			if (isAmong && !listed.some(({ comment }) => comment === number)) this.remove(number);
		}
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
