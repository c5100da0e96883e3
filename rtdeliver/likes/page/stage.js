/** All that moves: the scene, the thumbnails of the videos, and the reactions that float up. */

import { drawScene } from "./scenes.js";
import { SHAPES } from "./shapes.js";

const SCENE_MS = 33;
const FLIGHT_SECONDS = 3;
// More would be slow and hide the scene. Further likes show in the count only.
const FLOATERS = 400;
const SPRITE_PIXELS = 96;

export class Stage {
	#scene;
	#air;
	/** @type {[Context, string][]} */
	#thumbnails = [];
	/** @type {Record<string, HTMLCanvasElement>} */
	#sprites = {};
	/** @type {Floater[]} */
	#floaters = [];
	#video = "";
	#drawnAt = -2e3;
	#calm = matchMedia("(prefers-reduced-motion: reduce)");

	/**
	 * Draws the video on one canvas, and the reactions on another, which lies over it.
	 *
	 * @param {HTMLCanvasElement} scene
	 * @param {HTMLCanvasElement} air
	 */
	constructor(scene, air) {
		this.#scene = contextOf(scene, { alpha: false });
		this.#air = contextOf(air);
		for (const reaction in SHAPES) this.#sprites[reaction] = drawSprite(SHAPES[reaction]);
		new ResizeObserver(() => this.#fit()).observe(scene);
		requestAnimationFrame(this.#frame);
	}

	/** @param {string} video */
	show(video) {
		this.#video = video;
		this.#floaters = [];
		this.#drawnAt = -2e3;
	}

	/**
	 * @param {HTMLCanvasElement} canvas
	 * @param {string} video
	 */
	addThumbnail(canvas, video) {
		this.#thumbnails.push([contextOf(canvas, { alpha: false }), video]);
	}

	/**
	 * Lets a reaction float up.
	 *
	 * @param {string} reaction
	 */
	float(reaction) {
		const sprite = this.#sprites[reaction];
		if (!sprite || this.#floaters.length >= FLOATERS || document.hidden) return;
		this.#floaters.push({
			sprite,
			// Reactions of the same moment start apart, so that they do not rise as one.
			begin: performance.now() + Math.random() * 250,
			x: 0.7 + Math.random() * 0.26,
			sway: (Math.random() - 0.5) * 0.08,
			size: 0.05 + Math.random() * 0.05,
			speed: 0.75 + Math.random() * 0.35,
		});
	}

	#fit() {
		const { canvas } = this.#scene;
		const ratio = Math.min(devicePixelRatio, 2);
		const size = (/** @type {number} */ scale) => ({
			width: Math.max(1, Math.round(canvas.clientWidth * scale)),
			height: Math.max(1, Math.round(canvas.clientHeight * scale)),
		});
		Object.assign(this.#air.canvas, size(ratio));
		// A scene needs no sharp edges, and its cost grows with its pixels.
		Object.assign(canvas, size(Math.min(ratio, 960 / canvas.clientWidth)));
		this.#drawnAt = -2e3;
	}

	#frame = (/** @type {number} */ now) => {
		requestAnimationFrame(this.#frame);
		if (now - this.#drawnAt >= (this.#calm.matches ? 2000 : SCENE_MS - 4)) {
			this.#drawnAt = now;
			const seconds = ((performance.timeOrigin + now) / 1000) % 100_000;
			drawScene(this.#scene, this.#video, seconds);
			for (const [context, video] of this.#thumbnails) drawScene(context, video, seconds);
		}
		const { width, height } = this.#air.canvas;
		this.#air.clearRect(0, 0, width, height);
		this.#floaters = this.#floaters.filter((floater) => this.#draw(floater, now, width, height));
	};

	/**
	 * @param {Floater} floater
	 * @param {number} now
	 * @param {number} width
	 * @param {number} height
	 */
	#draw({ sprite, begin, x, sway, size, speed }, now, width, height) {
		const age = Math.max(0, (now - begin) / 1000) * speed;
		const part = age / FLIGHT_SECONDS;
		if (part >= 1) return false;
		const side = size * Math.min(1, age * 5) * height;
		const left = (x + Math.sin(age * 3) * sway) * width - side / 2;
		const top = height * (0.93 - (this.#calm.matches ? 0.3 : part) * 0.85) - side / 2;
		this.#air.globalAlpha = Math.min(1, (1 - part) * 2.5);
		this.#air.drawImage(sprite, left, top, side, side);
		return true;
	}
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasRenderingContext2DSettings} [settings]
 */
function contextOf(canvas, settings) {
	return /** @type {Context} */ (canvas.getContext("2d", settings));
}

/** @param {Shape} shape */
function drawSprite({ path, color }) {
	const canvas = document.createElement("canvas");
	canvas.width = canvas.height = SPRITE_PIXELS;
	const context = contextOf(canvas);
	context.scale(SPRITE_PIXELS / 28, SPRITE_PIXELS / 28);
	context.translate(2, 2);
	context.shadowColor = "#0006";
	context.shadowBlur = 5;
	context.fillStyle = color;
	context.fill(new Path2D(path), "evenodd");
	return canvas;
}
