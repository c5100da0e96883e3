/** Types that the page's modules share. Only the type checker reads them, not browsers. */

/** The elements of index.html that have an id. */
interface PageElements {
	air: HTMLCanvasElement;
	back: HTMLButtonElement;
	chat: HTMLElement;
	"chat-name": HTMLElement;
	comments: HTMLOListElement;
	crowd: HTMLButtonElement;
	figures: HTMLElement;
	join: HTMLFormElement;
	"join-name": HTMLInputElement;
	"join-password": HTMLInputElement;
	leave: HTMLButtonElement;
	likes: HTMLElement;
	list: HTMLElement;
	me: HTMLElement;
	members: HTMLUListElement;
	messages: HTMLOListElement;
	minutes: HTMLElement;
	name: HTMLElement;
	notice: HTMLElement;
	rate: HTMLElement;
	reactions: HTMLElement;
	say: HTMLFormElement;
	"say-text": HTMLInputElement;
	scene: HTMLCanvasElement;
	state: HTMLElement;
	tell: HTMLFormElement;
	"tell-text": HTMLInputElement;
	title: HTMLElement;
	typing: HTMLElement;
	videos: HTMLElement;
	viewers: HTMLElement;
}

/** The backend's answers. */
interface Settings {
	frontend: string;
	reactions: string[];
	name_characters: number;
	comment_characters: number;
	crowd_likes_per_second: number;
	crowd_seconds: number;
	now: number;
}

interface Video {
	video: string;
	title: string;
}

interface VideoPage {
	likes: number;
	minutes: { at: number; likes: number }[];
	comments: VideoComment[];
	viewers: number | null;
}

interface Session {
	token: string;
	member: string;
	expires_at: number;
	moderator: boolean;
}

/** Something stored; `delivery` is "failed" if others did not get it live. */
interface Stored {
	delivery: string;
}

interface Liked {
	reaction: string;
	likes: number;
}

interface Said {
	text: string;
	at: number;
}

interface VideoComment extends Said {
	comment: number;
	member: string;
}

interface Message extends Said {
	message: number;
	from: string;
	to: string;
	seen: boolean;
}

interface Seen {
	by: string;
	message: number;
}

/** A listed member; `online` is null if that is unknown. */
interface Entry {
	online: boolean | null;
	/** When an event told last whether the member is online, by `performance.now()`. */
	toldAt: number;
	unseen: number;
	/** What shows the member, once that is made. */
	item?: HTMLElement;
}

type Member = { member: string } & Pick<Entry, "online">;
type Conversation = { member: string } & Pick<Entry, "unseen">;

/** A message in the open chat. */
interface MessageItem extends HTMLLIElement {
	mine: boolean;
	seen: boolean;
}

type Context = CanvasRenderingContext2D;
type Stops = [number, string][];

/** What a reaction looks like. */
interface Shape {
	label: string;
	color: string;
	path: string;
}

/** A reaction that floats up. */
interface Floater {
	sprite: HTMLCanvasElement;
	begin: number;
	x: number;
	sway: number;
	size: number;
	speed: number;
}
