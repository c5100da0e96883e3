/** The "videos": moving scenes, the same for all viewers at any moment. */

/**
 * Draws a video as it looks at `seconds`, over a whole canvas.
 *
 * @param {Context} context
 * @param {string} video
 * @param {number} seconds
 */
export function drawScene(context, video, seconds) {
	const { hue, night } = lookOf(video);
	context.setTransform(context.canvas.width / 640, 0, 0, context.canvas.height / 360, 0, 0);
	(night ? drawNight : drawDusk)(context, hue, seconds);
}

/**
 * Returns the hue of a video, in degrees, and whether it shows a night.
 *
 * @param {string} video
 */
export function lookOf(video) {
	if (video === "red") return { hue: 8, night: false };
	if (video === "green") return { hue: 150, night: true };
	let hue = 7;
	for (const character of video) hue = (hue * 31 + Number(character.codePointAt(0))) % 360;
	return { hue, night: hue % 2 === 1 };
}

/**
 * @param {Context} context
 * @param {number} hue
 * @param {number} t
 */
function drawDusk(context, hue, t) {
	fillSky(context, [
		[0, `hsl(${hue + 262} 42% 20%)`],
		[0.5, `hsl(${hue} 68% 45%)`],
		[0.78, `hsl(${hue + 26} 92% 64%)`],
	]);
	const sunY = 196 + Math.sin(t / 9) * 10;
	const glow = context.createRadialGradient(430, sunY, 35, 430, sunY, 190);
	glow.addColorStop(0, `hsl(${hue + 42} 100% 88%)`);
	glow.addColorStop(0.02, `hsl(${hue + 30} 100% 70% / 0.6)`);
	glow.addColorStop(1, `hsl(${hue + 20} 100% 60% / 0)`);
	context.fillStyle = glow;
	context.fillRect(200, 0, 440, 360);
	for (let layer = 0; layer < 4; layer++) {
		context.fillStyle = `hsl(${hue - layer * 3} ${54 - layer * 4}% ${36 - layer * 9}%)`;
		drawRidge(context, 8, (x) => {
			const at = (x + t * (4 + layer * 9) + layer * 500) / (210 - layer * 22);
			// Flat tops and steep sides.
			const mesa = Math.tanh(4 * Math.sin(at) + 2 * Math.sin(at * 2.3 + layer));
			return 214 + layer * 34 - mesa * (26 - layer * 3) + Math.sin(at * 7) * 2;
		});
	}
}

/**
 * @param {Context} context
 * @param {number} hue
 * @param {number} t
 */
function drawNight(context, hue, t) {
	fillSky(context, [
		[0, `hsl(${hue + 78} 62% 8%)`],
		[0.7, `hsl(${hue + 46} 56% 16%)`],
	]);
	for (let i = 0; i < 90; i++) {
		context.fillStyle = `rgb(255 255 255 / ${0.2 + 0.6 * Math.abs(Math.sin(t * 0.8 + i * 1.7))})`;
		context.fillRect((i * 197.3) % 640, (i * i * 3.7) % 230, 1.4, 1.4);
	}
	context.globalCompositeOperation = "lighter";
	for (let layer = 0; layer < 3; layer++) drawCurtain(context, hue + layer * 16 - 12, t, layer);
	context.globalCompositeOperation = "source-over";
	for (let layer = 0; layer < 3; layer++) {
		context.fillStyle = `hsl(${hue + 30} ${34 - layer * 6}% ${13 - layer * 4}%)`;
		const shift = t * (3 + layer * 7);
		const step = 5 + layer * 2;
		// Trees keep their places on a hill while the hill passes by.
		const first = Math.floor(shift / step);
		drawRidge(context, step, (x, i) => {
			const n = first + i;
			const tree = n % 2 && layer ? 10 + ((n * n * 7) % 13) + layer * 5 : 0;
			return 262 + layer * 32 - Math.sin((n * step) / 150 + layer * 2) * 20 - tree;
		}, first * step - shift);
	}
}

/**
 * @param {Context} context
 * @param {number} hue
 * @param {number} t
 * @param {number} layer
 */
function drawCurtain(context, hue, t, layer) {
	context.fillStyle = gradient(context, 1, [
		[0, `hsl(${hue + 50} 90% 60% / 0)`],
		[0.5, `hsl(${hue + 14} 90% 52% / 0.2)`],
		[0.86, `hsl(${hue} 95% 58% / 0.4)`],
		[1, `hsl(${hue} 95% 58% / 0)`],
	]);
	for (let x = -10; x < 650; x += 8) {
		const at = x / 120 + t * (0.16 + layer * 0.05) + layer * 2;
		context.save();
		context.translate(x, 14 + layer * 16 + Math.sin(at) * 30 + Math.sin(at * 2.7) * 12);
		context.scale(9 + Math.sin(at * 5) * 4, 160 + Math.sin(at * 1.9 + t * 0.4) * 46);
		context.fillRect(0, 0, 1, 1);
		context.restore();
	}
}

/**
 * @param {Context} context
 * @param {number} step
 * @param {(x: number, i: number) => number} heightAt
 */
function drawRidge(context, step, heightAt, begin = 0) {
	context.beginPath();
	context.moveTo(begin, 360);
	for (let i = 0; begin + (i - 1) * step < 640; i++) {
		const x = begin + i * step;
		context.lineTo(x, heightAt(x, i));
	}
	context.lineTo(660, 360);
	context.fill();
}

/**
 * @param {Context} context
 * @param {Stops} stops
 */
function fillSky(context, stops) {
	context.fillStyle = gradient(context, 360, stops);
	context.fillRect(0, 0, 640, 360);
}

/**
 * @param {Context} context
 * @param {number} bottom
 * @param {Stops} stops
 */
function gradient(context, bottom, stops) {
	const made = context.createLinearGradient(0, 0, 0, bottom);
	for (const [at, color] of stops) made.addColorStop(at, color);
	return made;
}
