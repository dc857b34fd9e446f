/// <reference lib="esnext.disposable" />
// The types of the client, and what everything does. All times are milliseconds.

/** Connects to one dflockd server, or to several that divide the names of locks. It keeps no program alive. */
export class DistributedLockClient {
  /**
   * `url` is http://HOST:PORT or https://HOST:PORT; several have commas between them.
   * @throws TypeError if an argument is not allowed
   */
  constructor(url: string | URL, options?: ClientOptions);

  /** This client with one clientId: a promise to do one thing at a time, so that the server can see deadlocks. */
  actor(clientId: string): DistributedLockClient;

  /**
   * Acquires the lock `name` (1 to 256 bytes of UTF-8) with a lease of `timeout`, 100 to the server's limit (usually
   * 300,000); without one the server chooses, usually 30,000.
   * @throws LockTimeoutError if it was not free in time; LockDeadlockError, LockLimitMismatchError, LockCapacityError,
   * LockDeniedError, LockRequestError, LockUnavailableError, LockServerError; the reason of `signal` if that is
   * aborted; TypeError or RangeError, before any request, if an argument is not allowed.
   */
  acquire(name: string, timeout?: number, options?: AcquireOptions): Promise<DistributedLock>;

  /** Like acquire(), but the result is null if the lock was not free in time. */
  tryAcquire(name: string, timeout?: number, options?: AcquireOptions): Promise<DistributedLock | null>;

  /**
   * Acquires a lock, runs `body`, and releases the lock however `body` ends. The result is that of `body`.
   * @throws what `body` throws; else LockLostError if the lock was lost meanwhile; what acquire() throws
   */
  withLock<T>(name: string, timeout: number, body: (lock: DistributedLock) => T): Promise<Awaited<T>>;
  withLock<T>(
    name: string,
    timeout: number,
    options: AcquireOptions,
    body: (lock: DistributedLock) => T,
  ): Promise<Awaited<T>>;

  /** Who holds the lock `name` and how many wait. */
  status(name: string, options?: { space?: Space }): Promise<LockStatus>;

  /** All locks that are held, on all servers, `pageSize` (1 to 1,000, usually 100) a request. */
  locks(options?: { prefix?: string; space?: Space; pageSize?: number }): AsyncGenerator<LockStatus, void, undefined>;

  /** The counters of one server, by its place in the URL, from 0. */
  stats(server?: number): Promise<Record<string, number | string>>;

  /** @throws LockUnavailableError if the server does not answer */
  health(server?: number): Promise<{ status: string; version: string; uptime: number }>;

  /**
   * Ends all holds of a lock, or the one with `lockId`. It needs the token of an administrator if the server has one.
   * Only with `lockId` it is repeated. If a repeat finds nothing because the first was heard and its answer lost, what
   * is not known is null.
   * @throws LockNotHeldError if nobody holds it
   */
  forceRelease(
    name: string,
    options?: { lockId?: string; space?: Space },
  ): Promise<{ released: boolean; locks: { lockId: string; clientId: string | null }[]; waiters: number | null }>;

  /**
   * Releases all locks of this client and of its actors, ends their waits, and closes the connections. Of an actor it
   * ends only what is the actor's.
   */
  close(): Promise<void>;
}

/**
 * A lock that was granted. It keeps no program alive, and is not released when the program exits: its lease ends it.
 */
export class DistributedLock implements AsyncDisposable {
  private constructor();
  readonly lockName: string;
  /** Unique for each grant. */
  readonly lockId: string;
  readonly clientId: string;
  /** 16 hexadecimal digits that order as text and rise with each grant. Let what you guard refuse a lower one. */
  readonly fencingToken: string;
  /** The fencing token as a number of 64 bits. */
  readonly fence: bigint;
  /** Is aborted when the lock is lost; its reason is the LockLostError. Give it to fetch() and others. */
  readonly signal: AbortSignal;

  /** What is left until the deadline, after which the lock is lost; 0 if it is lost or released. It reads the clock. */
  remaining(): number;

  /** @throws LockLostError if the lock is lost; LockNotHeldError if it was released */
  check(): void;

  /**
   * Renews the lease, to `timeout` from now if that is given.
   * @throws LockLostError; LockNotHeldError after a release; LockUnavailableError and others while the lock is still
   * held
   */
  renew(timeout?: number): Promise<void>;

  /**
   * Releases the lock. The result is true if the server confirms it, and false if the lock was lost before, or if no
   * answer came within 5 s and the lease will end it. It never throws, and a second call sends nothing.
   */
  release(): Promise<boolean>;

  /** For `await using`: releases the lock. @throws LockLostError if it was lost */
  [Symbol.asyncDispose](): Promise<void>;
}

export type Space = 'lock' | 'semaphore';

export interface ClientOptions {
  /** The token of the server. */
  token?: string;
  /** The authorities to trust instead of the usual ones, in PEM: the content of a file, not its name. */
  ca?: string | Uint8Array | (string | Uint8Array)[];
  /** As actor(): 1 to 128 bytes. Without it each acquire has a clientId of its own. */
  clientId?: string;
  /** The number of the server for a name, 0 to `count` - 1, instead of CRC-32 modulo `count`. */
  shard?: (name: string, count: number) => number;
}

export interface AcquireOptions {
  /** How long to wait for the lock, 0 to Infinity. 0, the default, tries once. */
  waitTimeout?: number;
  /** Renew the lease each third of it, until the release, the loss or `maxHold`. */
  autoRenew?: boolean;
  /** How long after the grant the lock is renewed, 0 to Infinity, the default. */
  maxHold?: number;
  /** How many may hold it at once, 1 to 1,048,576. It is another lock than that of the same name without a limit. */
  limit?: number;
  /** Shown in the status of the lock, at most 4 KiB of JSON. */
  metadata?: object;
  /** Is called once if the lock is lost. What it throws becomes a warning of the process. */
  onLost?: (error: LockLostError) => void | Promise<void>;
  /** Ends the acquire, and leaves nothing behind at the server. After the grant it does nothing. */
  signal?: AbortSignal;
}

export interface LockHolder {
  lockId: string;
  clientId: string;
  acquiredAt: string;
  expiresAt: string;
  /** In seconds. */
  ttl: number;
  autoRenew: boolean;
  metadata: object | null;
}

export interface LockStatus {
  lockName: string;
  locked: boolean;
  holders: LockHolder[];
  waiters: number;
  limit?: number;
  /** These four are those of the only holder. */
  lockId?: string;
  clientId?: string;
  expiresAt?: string;
  metadata?: object | null;
}

/** The parent of all errors here. No text of theirs contains a secret. */
export class LockError extends Error {
  /** Of the server, such as "not-held"; or "no-connection", "no-answer", "tls", "nonsense", "closed" of the client. */
  readonly code: string | null;
  /** Of HTTP. */
  readonly status: number | null;
  readonly detail: string | null;
  /** Of the HTTP request, as in the log of the server. */
  readonly requestId: string | null;
}

/** The lock was not free in time. */
export class LockTimeoutError extends LockError {
  /** "timeout"; "late": a grant came with too little of its lease; "quarantine" soon after a start of the server. */
  readonly reason: string;
}

/** The wait would never have ended. */
export class LockDeadlockError extends LockError {
  readonly cycle: { clientId: string; waitsFor: string }[];
}

/** The lock was lost: its lease was not renewed in time, or the server has ended it. */
export class LockLostError extends LockError {}
export class LockNotHeldError extends LockError {}
/** Others use the semaphore with another limit. */
export class LockLimitMismatchError extends LockError {}
/** The token is missing or wrong, or not that of an administrator. */
export class LockDeniedError extends LockError {}
/** No connection, no answer, no TLS, or a client that was closed. */
export class LockUnavailableError extends LockError {}
/** The server is about to stop. */
export class LockDrainingError extends LockUnavailableError {}
/** The server has reached one of its limits. */
export class LockCapacityError extends LockError {}
/** The server does not understand the request. */
export class LockRequestError extends LockError {}
/** The server failed, or what answers is no dflockd server. */
export class LockServerError extends LockError {}
