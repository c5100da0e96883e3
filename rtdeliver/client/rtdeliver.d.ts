/**
 * @typedef {object} StreamOptions
 * @property {string} url of a frontend
 * @property {string[]} [topics] to begin with
 * @property {() => string | null | Promise<string | null>} [token] gives a member's token whenever
 *   it connects, and before the last one expires
 * @property {boolean} [withCredentials] whether to send cookies to another origin
 */
/** @typedef {"connecting" | "catching up" | "open" | "lost" | "closed"} StreamState */
/**
 * @template [Data=any]
 * @typedef {object} StreamEvent
 * @property {string} topic
 * @property {string} type "message" unless the producer gave one
 * @property {string} id
 * @property {number} at when it was accepted, in milliseconds since the epoch
 * @property {Data} data what the producer published
 * @property {string} [position] its place in the history of its topic, if that has one
 */
/**
 * @typedef {object} Gap
 * @property {number | null} lost how many events; null if nobody knows
 * @property {string[]} topics of which they may have been
 */
/**
 * @typedef {object} TopicsChange
 * @property {string[]} added
 * @property {string[]} removed
 */
/**
 * @typedef {object} Disconnection
 * @property {string} reason what the backend says; empty if that is not known
 * @property {boolean} reconnect whether the stream connects again, with a new token
 */
/**
 * Opens a stream, which stays until `close()`.
 *
 * @param {StreamOptions} options
 */
export function connect(options: StreamOptions): Stream;
/** A stream that `connect` has opened. */
export class Stream {
    /** @param {StreamOptions} options */
    constructor({ url, topics, token, withCredentials }: StreamOptions);
    /**
     * "connecting", "catching up" while it gets what it missed, "open", "lost" while it tries to
     * connect again, or "closed".
     */
    get state(): StreamState;
    /** What is to be watched, now or once it is connected. */
    get topics(): string[];
    /**
     * Watches more topics, on the same stream.
     *
     * @param {...string} topics
     * @returns {Promise<boolean>} once they are watched: true when all that is published from now on
     *   will come, false where the server cannot promise that yet; rejected if it refuses them
     */
    subscribe(...topics: string[]): Promise<boolean>;
    /**
     * Watches these no longer; none of their events comes from now on.
     *
     * @param {...string} topics
     */
    unsubscribe(...topics: string[]): Promise<boolean>;
    /**
     * Calls `listener` with the events of a type, or of all: "*". Call what it returns to end that;
     * so it is with the listeners below.
     *
     * @template [Data=any]
     * @param {string} type
     * @param {(event: StreamEvent<Data>) => void} listener
     */
    onEvent<Data = any>(type: string, listener: (event: StreamEvent<Data>) => void): () => boolean;
    /**
     * Calls `listener` when events were lost, and after a reconnect for all topics of which the
     * stream does not go on where it was.
     *
     * @param {(gap: Gap) => void} listener
     */
    onGap(listener: (gap: Gap) => void): () => boolean;
    /**
     * Calls `listener` with each new state; "open" comes after every reconnect.
     *
     * @param {(state: StreamState) => void} listener
     */
    onState(listener: (state: StreamState) => void): () => boolean;
    /**
     * Calls `listener` when the token has expired, before another is asked for.
     *
     * @param {() => void} listener
     */
    onExpired(listener: () => void): () => boolean;
    /**
     * Calls `listener` when the server has added or removed topics: by the backend, or because a new
     * token does not grant them.
     *
     * @param {(change: TopicsChange) => void} listener
     */
    onTopics(listener: (change: TopicsChange) => void): () => boolean;
    /**
     * Calls `listener` when the backend has ended the stream. Unless it connects again by itself, it
     * is closed then.
     *
     * @param {(disconnection: Disconnection) => void} listener
     */
    onDisconnected(listener: (disconnection: Disconnection) => void): () => boolean;
    /** Connects anew, for example as another member. */
    reconnect(): void;
    /** Ends the stream for good. */
    close(): void;
    #private;
}
export type StreamOptions = {
    /**
     * of a frontend
     */
    url: string;
    /**
     * to begin with
     */
    topics?: string[] | undefined;
    /**
     * gives a member's token whenever
     * it connects, and before the last one expires
     */
    token?: (() => string | null | Promise<string | null>) | undefined;
    /**
     * whether to send cookies to another origin
     */
    withCredentials?: boolean | undefined;
};
export type StreamState = "connecting" | "catching up" | "open" | "lost" | "closed";
export type StreamEvent<Data = any> = {
    topic: string;
    /**
     * "message" unless the producer gave one
     */
    type: string;
    id: string;
    /**
     * when it was accepted, in milliseconds since the epoch
     */
    at: number;
    /**
     * what the producer published
     */
    data: Data;
    /**
     * its place in the history of its topic, if that has one
     */
    position?: string | undefined;
};
export type Gap = {
    /**
     * how many events; null if nobody knows
     */
    lost: number | null;
    /**
     * of which they may have been
     */
    topics: string[];
};
export type TopicsChange = {
    added: string[];
    removed: string[];
};
export type Disconnection = {
    /**
     * what the backend says; empty if that is not known
     */
    reason: string;
    /**
     * whether the stream connects again, with a new token
     */
    reconnect: boolean;
};
export type Place = {
    text: string;
    number: number;
    tag: string;
};
