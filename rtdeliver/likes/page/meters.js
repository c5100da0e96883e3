/** Meters for the latency of events and the rate of likes. */

const SAMPLES = 500;
const RATE_SECONDS = 5;

/** The backend's clock, in milliseconds since the epoch, as estimated by the page. */
export const clock = {
	offset: 0,

	now() {
		return performance.timeOrigin + performance.now() + this.offset;
	},

	/**
	 * Compares this clock with the one that `ask` returns. The quickest of three answers counts.
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
		// A difference smaller than the round trip could be an error of the measurement.
		this.offset = Math.abs(offset) > shortest ? offset : 0;
	},
};

/** Percentiles of the latency of the last events, in milliseconds. */
export class LatencyMeter {
	/** @type {number[]} */
	#samples = [];

	/**
	 * Adds an event that a dispatcher accepted at this time.
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

/** How many likes came each second, over the last seconds. */
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
