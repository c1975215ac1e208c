// What the node's admin API answers (docs/admin-api.md), as far as this page shows it.

export interface Conversation {
  conversation: string;
  version: number;
  bot?: string;
  bot_version?: number;
  behavior?: string;
  state?: unknown;
  speaker?: string;
  attributes: { name: string; value: string }[];
  tags: string[];
  calls: string[];
  timers: { name: string; due: string }[];
  pending: { seq: number; received: string; event: Stored }[];
  outbox: { id: string; time: string; message: Stored }[];
  history: Turn[];
}

/** An input or an effect, as it is stored. */
export interface Stored {
  kind?: string;
  input?: Record<string, unknown>;
  effect?: string;
  [more: string]: unknown;
}

/** A record of the history. */
export interface Turn {
  version: number;
  at: string;
  bot?: string;
  turn?: { seq: number; late?: boolean; in?: Stored; not?: string; out?: Stored[]; buried?: { in: Stored | string; not: string }[] }[];
  retried?: string;
  merged?: string;
  merged_into?: string;
}

export interface DeadLetter {
  id: string;
  time: string;
  kind: string;
  what: string;
  cause: string;
}

async function failure(answer: Response): Promise<Error> {
  const text = await answer.text();
  try {
    return new Error((JSON.parse(text) as { detail?: string }).detail ?? text);
  } catch {
    return new Error(text.trim() || answer.statusText);
  }
}

/** Sends JSON, and gives back what is answered, if something is. */
export async function send<T = void>(method: string, path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { 'Content-Type': 'application/json' };
  }
  const answer = await fetch(path, init);
  if (!answer.ok) throw await failure(answer);
  const text = await answer.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

export const retryLetter = (id: string) => send('POST', `/api/deadletters/${id}/retry`);
export const dropLetter = (id: string) => send('DELETE', `/api/deadletters/${id}`);
