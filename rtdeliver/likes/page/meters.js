/** What is measured: how long deliveries take, and how many likes come. */

const SAMPLES = 500;
const RATE_SECONDS = 5;

/** The backend's time, in milliseconds since the epoch, as far as it can be told from here. */
export const clock = {
	offset: 0,

	now() {
		return performance.timeOrigin + performance.now() + this.offset;
	},

	/**
	 * Compares with what `ask` gives, a few times: the quickest answer tells most.
	 *
	 * @param {() => Promise<number>} ask
	 */
	async compare(ask) {
		let shortest = Infinity;
		let offset = 0;
		for (let i = 0; i < 3; i++) {
			const before = performance.now();
			const theirs = await ask();
			const trip = performance.now() - before;
			if (trip >= shortest) continue;
			shortest = trip;
			offset = theirs - performance.timeOrigin - before - trip / 2;
		}
		// Less than the trip is no difference that can be told.
		this.offset = Math.abs(offset) > shortest ? offset : 0;
	},
};

/** Percentiles over the last deliveries, in milliseconds. */
export class LatencyMeter {
	/** @type {number[]} */
	#samples = [];

	/**
	 * Notes an event that a dispatcher accepted at this time.
	 *
	 * 
	 * @param {number} at
	 */
	note(at) {
		this.#samples.push(Math.max(0, clock.now() - at));
		if (this.#samples.length > SAMPLES) this.#samples.shift();
	}

	/** @param {number} percent */
	percentile(percent) {
		const sorted = [...this.#samples].sort((a, b) => a - b);
		return sorted[Math.floor((percent / 100) * sorted.length)];
	}
}

/** How many came a second, lately. */
export class RateMeter {
	/** @type {number[]} */
	#times = [];

	clear() {
		this.#times = [];
	}

	note() {
		this.#times.push(performance.now());
	}

	perSecond() {
		const begin = performance.now() - RATE_SECONDS * 1_000;
		while (this.#times[0] < begin) this.#times.shift();
		return this.#times.length / RATE_SECONDS;
	}
}
