/** The shapes of the reactions: outlines in a square of 24 by 24. */

/** @type {Record<string, Shape>} */
export const SHAPES = {
	heart: {
		label: "Heart",
		color: "#ff4d6d",
		path:
			"M12 21C5 15.5 2 12 2 8.2 2 5.2 4.3 3 7.2 3 9.1 3 10.9 4 12 5.6 13.1 4 14.9 3 16.8 3 19.7 3 22 5.2 22 8.2 22 12 19 15.5 12 21Z",
	},
	star: {
		label: "Star",
		color: "#ffc53d",
		path: "M12 2.5 14.9 8.8 21.7 9.6 16.7 14.2 18 21 12 17.6 6 21 7.3 14.2 2.3 9.6 9.1 8.8Z",
	},
	fire: {
		label: "Fire",
		color: "#ff8b3d",
		path:
			"M12.5 1.5C13 6 18.5 8.5 18.5 14.5 18.5 18.9 15.6 22 12 22 8.4 22 5.5 19.2 5.5 15 5.5 11.8 7.3 10 8.2 7.5 9.3 8.5 9.9 9.6 10 11 11.8 8.6 12.9 5.3 12.5 1.5Z",
	},
	laugh: {
		label: "Laugh",
		color: "#ffd93b",
		path:
			"M12 2A10 10 0 1 0 12 22 10 10 0 1 0 12 2ZM8.5 7.5A1.5 1.5 0 1 1 8.5 10.5 1.5 1.5 0 1 1 8.5 7.5ZM15.5 7.5A1.5 1.5 0 1 1 15.5 10.5 1.5 1.5 0 1 1 15.5 7.5ZM6 13H18C18 16.5 15.3 19 12 19 8.7 19 6 16.5 6 13Z",
	},
};

/**
 * Makes an icon of a reaction, for a button.
 *
 * @param {string} reaction
 */
export function icon(reaction) {
	const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
	svg.setAttribute("viewBox", "0 0 24 24");
	svg.setAttribute("aria-hidden", "true");
	const path = document.createElementNS(svg.namespaceURI, "path");
	path.setAttribute("d", SHAPES[reaction].path);
	path.setAttribute("fill", SHAPES[reaction].color);
	path.setAttribute("fill-rule", "evenodd");
	svg.append(path);
	return svg;
}
