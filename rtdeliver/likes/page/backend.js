/** Requests to the backend, and the visitor's session. */

const REQUEST_MS = 15_000;
const SAVED = "rtdeliver-session";

/**
 * Makes a path from a template; values are percent-encoded.
 *
 * @param {TemplateStringsArray} strings
 * @param {...string} values
 */
export const path = (strings, ...values) =>
	String.raw({ raw: strings }, ...values.map(encodeURIComponent));

export class Backend {
	// Each tab has its own session; a new tab begins with the session of the cookie.
	/** @type {Session | null} */
	#session = JSON.parse(sessionStorage.getItem(SAVED) ?? "null");

	/** The member's name; null for an anonymous visitor. */
	get member() {
		return this.#session?.member ?? null;
	}

	/** The member's token; null once it has expired. */
	get token() {
		return this.#session && this.#session.expires_at > Date.now() ? this.#session.token : null;
	}

	/** Whether the member may remove comments and ban members. */
	get moderator() {
		return this.#session?.moderator ?? false;
	}

	/** @param {string} at */
	delete(at) {
		return this.#request("DELETE", at);
	}

	/** @param {string} at */
	get(at) {
		return this.#request("GET", at);
	}

	/** @param {string} at */
	post(at, body = {}) {
		return this.#request("POST", at, body);
	}

	/** Loads the session of the cookie, or of the token. */
	async resume() {
		this.#keep(await this.get("/session"));
	}

	/**
	 * @param {string} name
	 * @param {string} password - of a moderator
	 */
	async enter(name, password) {
		this.#keep(await this.post("/session", { name, password }));
		return true;
	}

	async leave() {
		this.#keep(await this.delete("/session"));
	}

	/** Forgets the session, which has expired. */
	forget() {
		this.#keep({});
	}

	/** @param {Session | { token?: undefined }} session */
	#keep(session) {
		this.#session = session.token ? session : null;
		sessionStorage.setItem(SAVED, JSON.stringify(this.#session));
	}

	/**
	 * @param {string} method
	 * @param {string} at
	 * @param {object} [body]
	 * @returns {Promise<any>}
	 */
	async #request(method, at, body) {
		/** @type {Record<string, string>} */
		const headers = body ? { "Content-Type": "application/json" } : {};
		if (this.token) headers.Authorization = `Bearer ${this.token}`;
		const signal = AbortSignal.timeout(REQUEST_MS);
		let response, answer;
		try {
			response = await fetch(at, { method, headers, signal, body: body && JSON.stringify(body) });
			answer = await response.json();
		} catch {
			throw new Error("The backend cannot be reached.");
		}
		if (!response.ok) throw new Error(answer.message, { cause: response.status });
		return answer;
	}
}
