// How stored events and effects read.
import type { Stored } from '../api';

const str = (v: unknown): string => (typeof v === 'string' ? v : '');

export interface Line {
  what: string;
  text: string;
}

/** What came in. */
export function inputLine(s: Stored): Line {
  const i = (s.input ?? {}) as Record<string, unknown>;
  const kind = s.kind ?? '?';
  switch (kind) {
    case 'message': {
      const files = Array.isArray(i.attachments) ? i.attachments.map((a: { type?: string }) => `[${a.type}]`).join(' ') : '';
      const payload = str(i.payload) && str(i.payload).toLowerCase() !== str(i.text).toLowerCase() ? ` (${str(i.payload)})` : '';
      return { what: 'message', text: [str(i.text) + payload, files, i.location ? '[location]' : ''].filter(Boolean).join(' ') };
    }
    case 'postback':
      return { what: 'button', text: str(i.title) || str(i.payload) };
    case 'reaction':
      return { what: 'reaction', text: i.removed ? 'taken back' : str(i.emoji) };
    case 'timer_fired':
      return { what: 'timer', text: str(i.name) };
    case 'send_failed':
      return { what: 'not sent', text: str(i.reason) };
    case 'called':
      return { what: 'answer', text: str(i.name) + ' ' + (str(i.failure) || String(i.status ?? '')) };
  }
  return { what: kind.replaceAll('_', ' '), text: str(i.text) };
}

/** What the bot wanted. */
export function effectLine(s: Stored): Line {
  const value = (s.value ?? s.send ?? s) as Record<string, unknown>;
  const kind = s.effect ?? '?';
  const reaction = (value.reaction ?? {}) as { emoji?: string };
  const names = [str(value.text), str(value.name), str(reaction.emoji)].filter(Boolean);
  const parts = ['buttons', 'quick_replies', 'list', 'media', 'cards', 'location', 'template', 'flow', 'signal'].filter((k) => k in value);
  return { what: kind.replaceAll('_', ' '), text: [...names, ...parts.map((p) => `[${p.replaceAll('_', ' ')}]`)].join(' ') };
}
