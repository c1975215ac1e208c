// What parley dev serves at /dev/: the phones, the node's process, the clock.
import { send, type Conversation, type DeadLetter } from '../api';

export type Platform = 'messenger' | 'instagram' | 'whatsapp';

export interface Act {
  text?: string;
  payload?: string;
  tap?: 'quick_reply' | 'button' | 'list' | 'template';
  media?: { kind: string; name: string };
  place?: { latitude: number; longitude: number; name?: string; address?: string };
  react?: boolean;
  emoji?: string;
  about?: string;
}

export interface Bubble {
  id: string;
  mine?: boolean;
  at: string;
  status: 'sending' | 'delivered' | 'read';
  act?: Act;
  sent?: Record<string, unknown>;
  deliveries?: number;
  reaction?: string;
}

export interface Phone {
  id: string;
  name: string;
  platform: Platform;
  channel: string;
  bubbles: Bubble[] | null;
  typing?: string;
}

export interface Troubles {
  duplicates: boolean;
  reorder: boolean;
  lost_answers: boolean;
  graph_down: boolean;
}

export interface NodeStatus {
  state: 'building' | 'starting' | 'up' | 'killed' | 'crashed' | 'off';
  bot: string;
  bots: string[] | null;
  error?: string;
  starts: number;
  kills: number;
  pid?: number;
  program?: string;
  build_error?: string;
  builds: number;
  build_seconds: number;
  log: string[];
}

export interface Overall {
  node: NodeStatus;
  now: string;
  offset_ms: number;
  troubles: Troubles;
  waiting: number;
  phones: string[] | null;
}

interface Inside {
  id: string;
  conversation: Conversation;
  dead_letters: DeadLetter[];
}

/** Everything that the page shows of the stage, kept up to date by its events. */
class Stage {
  overall = $state.raw<Overall>();
  phones = $state.raw<Record<string, Phone>>({});
  inside = $state.raw<Inside>();
  connected = $state(false);
  error = $state('');
  visible = $state(document.visibilityState === 'visible');
  tick = $state(Date.now());
  #source?: EventSource;
  #watch = '';

  constructor() {
    document.addEventListener('visibilitychange', () => (this.visible = document.visibilityState === 'visible'));
    setInterval(() => (this.tick = Date.now()), 1000);
  }

  /** The time on the phones, in ms. */
  get now(): number {
    return this.tick + (this.overall?.offset_ms ?? 0);
  }

  get people(): Phone[] {
    return (this.overall?.phones ?? []).flatMap((id) => this.phones[id] ?? []);
  }

  /** Opens the stream of news, with the inside of one phone's conversation. */
  watch(id: string) {
    if (this.#source && this.#watch === id) return;
    this.#watch = id;
    this.#source?.close();
    const source = new EventSource('/dev/events?watch=' + encodeURIComponent(id));
    this.#source = source;
    source.onopen = () => (this.connected = true);
    source.onerror = () => {
      this.connected = false;
      // A browser gives up by itself when the connection is refused for long.
      if (source.readyState === EventSource.CLOSED) {
        this.#source = undefined;
        setTimeout(() => this.watch(this.#watch), 1000);
      }
    };
    const on = <T>(name: string, take: (data: T) => void) =>
      source.addEventListener(name, (e) => take(JSON.parse((e as MessageEvent<string>).data) as T));
    on<Overall>('overall', (o) => (this.overall = o));
    on<Phone>('phone', (p) => (this.phones = { ...this.phones, [p.id]: p }));
    on<Inside>('inside', (i) => (this.inside = i));
  }

  /** Does something that may fail, and shows why it did. */
  async attempt(what: () => Promise<unknown>): Promise<boolean> {
    try {
      await what();
      this.error = '';
      return true;
    } catch (e) {
      this.error = e instanceof Error ? e.message : String(e);
      return false;
    }
  }

  act = (id: string, act: Act) => this.attempt(() => send('POST', '/dev/act', { id, act }));
  look = (id: string) => this.attempt(() => send('POST', '/dev/look', { id }));
  jump = (seconds: number) => this.attempt(() => send('POST', '/dev/jump', { seconds }));
  node = (order: string, bot?: string) => this.attempt(() => send('POST', '/dev/node', bot ? { do: order, bot } : { do: order }));
  trouble = (change: Partial<Troubles>) =>
    this.attempt(() => send('POST', '/dev/troubles', { ...this.overall?.troubles, ...change }));
  /** Saves the chat of a phone as a transcript for a test of the bot. */
  save = (phone: Phone) =>
    this.attempt(async () => {
      const answer = await fetch('/dev/transcript?id=' + encodeURIComponent(phone.id));
      const text = await answer.text();
      if (!answer.ok) throw new Error(text.trim());
      const link = document.createElement('a');
      link.href = URL.createObjectURL(new Blob([text], { type: 'text/plain' }));
      link.download = `${stage.overall?.node.bot || 'bot'}-${phone.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}.txt`;
      link.click();
      URL.revokeObjectURL(link.href);
    });

  async add(platform: Platform, name: string): Promise<string> {
    let id = '';
    await this.attempt(async () => {
      id = (await send<{ id: string }>('POST', '/dev/people', { platform, name })).id;
    });
    return id;
  }
}

export const stage = new Stage();
