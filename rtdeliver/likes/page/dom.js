/** Helpers for the page's elements. Text is always set as text, never as HTML. */

const KEPT = 200;

export const byId = (id) => document.getElementById(id);

/** Makes an element with these properties and children. */
export function make(tag, properties = {}, ...children) {
	const element = Object.assign(document.createElement(tag), properties);
	element.append(...children);
	return element;
}

/** An element with a member's name, in a colour of its own. */
export function nameTag(member) {
	let hue = 0;
	for (const character of member) hue = (hue * 33 + character.codePointAt(0) * 47) % 360;
	const tag = make("b", { className: "name", textContent: member });
	tag.style.setProperty("--name-hue", hue);
	return tag;
}

/** What somebody said, and when. */
export function utterance({ text, at }, untold) {
	const time = new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
	return [
		make("span", { className: "text", textContent: text }),
		make("time", { textContent: time }),
		untold ? make("em", { textContent: "not told live" }) : "",
	];
}

/** A list of numbered items: each once, in their order, and scrolled to the last one. */
export class Log {
	#list;
	#items = new Map();

	constructor(list) {
		this.#list = list;
	}

	has(number) {
		return this.#items.has(number);
	}

	add(number, item) {
		const list = this.#list;
		const wasAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
		// Mostly at the end; what two dispatchers took at once may come in another order.
		const later = [...this.#items.keys()].filter((other) => other > number);
		list.insertBefore(item, later.length ? this.#items.get(Math.min(...later)) : null);
		this.#items.set(number, item);
		if (this.#items.size > KEPT) {
			const first = Math.min(...this.#items.keys());
			this.#items.get(first).remove();
			this.#items.delete(first);
		}
		if (wasAtEnd) list.scrollTop = list.scrollHeight;
	}

	[Symbol.iterator]() {
		return this.#items[Symbol.iterator]();
	}

	clear() {
		this.#items.clear();
		this.#list.replaceChildren();
	}
}

/** Sends what a form's field holds, and keeps it there if that fails. */
export function onSubmit(form, send) {
	const [field] = form.elements;
	form.onsubmit = async (event) => {
		event.preventDefault();
		const text = field.value.trim();
		if (!text) return;
		field.value = "";
		if (!(await send(text))) field.value ||= text;
	};
}
