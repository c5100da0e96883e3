/** Helpers for the page's elements. Text is always set as text, never as HTML. */

const KEPT = 200;

/**
 * @template {keyof PageElements} Id
 * @param {Id} id
 */
export const byId = (id) => /** @type {PageElements[Id]} */ (document.getElementById(id));

/**
 * Makes an element with these properties and children.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]>} properties
 * @param {...(Node | string)} children
 */
export function make(tag, properties = {}, ...children) {
	const element = Object.assign(document.createElement(tag), properties);
	element.append(...children);
	return element;
}

/**
 * Makes an element with a member's name, in the colour of that name.
 *
 * @param {string} member
 */
export function nameTag(member) {
	let hue = 0;
	for (const character of member) hue = (hue * 33 + Number(character.codePointAt(0)) * 47) % 360;
	const tag = make("b", { className: "name", textContent: member });
	tag.style.setProperty("--name-hue", `${hue}`);
	return tag;
}

/**
 * Makes the elements of a comment or message: its text and its time.
 *
 * @param {Said} said
 * @param {boolean} undelivered - whether others did not get it live
 */
export function utterance({ text, at }, undelivered) {
	const time = new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
	return [
		make("span", { className: "text", textContent: text }),
		make("time", { textContent: time }),
		undelivered ? make("em", { textContent: "not delivered live" }) : "",
	];
}

/**
 * A list that shows numbered items once each, in order, and stays scrolled to the last one.
 *
 * @template {HTMLElement} Item
 */
export class Log {
	#list;
	/** @type {Map<number, Item>} */
	#items = new Map();

	/** @param {HTMLElement} list */
	constructor(list) {
		this.#list = list;
	}

	/** @param {number} number */
	has(number) {
		return this.#items.has(number);
	}

	/**
	 * @param {number} number
	 * @param {Item} item
	 */
	add(number, item) {
		const list = this.#list;
		const wasAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
		// Usually at the end. Events that two dispatchers accept at once may come out of order.
		const later = [...this.#items.keys()].filter((other) => other > number);
		list.insertBefore(item, this.#items.get(Math.min(...later)) ?? null);
		this.#items.set(number, item);
		if (this.#items.size > KEPT) this.remove(Math.min(...this.#items.keys()));
		if (wasAtEnd) list.scrollTop = list.scrollHeight;
	}

	/** @param {number} number */
	remove(number) {
		this.#items.get(number)?.remove();
		this.#items.delete(number);
	}

	[Symbol.iterator]() {
		return this.#items[Symbol.iterator]();
	}

	clear() {
		this.#items.clear();
		this.#list.replaceChildren();
	}
}

/**
 * Sends the text of a form's field, and puts it back into the field if that fails.
 *
 * @param {HTMLFormElement} form
 * @param {(text: string) => Promise<unknown>} send - its result is falsy if it failed
 */
export function onSubmit(form, send) {
	const field = /** @type {HTMLInputElement} */ (form.elements[0]);
	form.onsubmit = async (event) => {
		event.preventDefault();
		const text = field.value.trim();
		if (!text) return;
		field.value = "";
		if (!(await send(text))) field.value ||= text;
	};
}
