// What a message shows, made of what the business posted to the Graph API or the user did.
import type { Act, Bubble, Platform } from './stage.svelte';

export interface Choice {
  title: string;
  payload: string;
  url?: string;
  tap: NonNullable<Act['tap']>;
  about?: string; // a line below the title
}

export interface Card {
  title: string;
  subtitle?: string;
  image?: string;
  buttons: Choice[];
}

export interface Content {
  text: string;
  header?: string;
  footer?: string;
  note?: string; // what this page can't show as a phone does
  file?: { kind: string; name: string; url?: string };
  place?: { name: string; address?: string; latitude: number; longitude: number };
  cards: Card[];
  buttons: Choice[]; // stay with the message
  quick: Choice[]; // go with the next one
  list?: { button: string; sections: { title?: string; rows: Choice[] }[] };
  asksPlace?: boolean;
  about?: string; // the message that it replies to
}

type Json = Record<string, unknown>;

const obj = (v: unknown): Json => (v && typeof v === 'object' ? (v as Json) : {});
const str = (v: unknown): string => (typeof v === 'string' ? v : '');
const arr = (v: unknown): Json[] => (Array.isArray(v) ? v.map(obj) : []);
const fileName = (url: string): string => url.split(/[?#]/)[0]?.split('/').pop() || url;

const empty = (): Content => ({ text: '', cards: [], buttons: [], quick: [] });

/** The content of a message on a phone. */
export function contentOf(b: Bubble, platform: Platform): Content {
  if (b.act) return ofAct(b.act);
  return platform === 'whatsapp' ? ofNumber(obj(b.sent)) : ofPage(obj(b.sent));
}

function ofAct(a: Act): Content {
  const c = empty();
  c.text = a.text ?? '';
  if (a.tap === undefined) c.about = a.about;
  if (a.media) c.file = { ...a.media, url: a.media.kind === 'image' || a.media.kind === 'sticker' ? '/dev/media/' + a.media.name : undefined };
  if (a.place) c.place = { name: a.place.name ?? 'Location', address: a.place.address, latitude: a.place.latitude, longitude: a.place.longitude };
  return c;
}

function buttonOf(b: Json): Choice {
  return { title: str(b.title), payload: str(b.payload), url: str(b.url) || undefined, tap: 'button' };
}

/** Messenger and Instagram. */
function ofPage(sent: Json): Content {
  const c = empty();
  const m = obj(sent.message);
  c.text = str(m.text);
  c.about = str(obj(sent.reply_to).mid) || undefined;
  for (const q of arr(m.quick_replies)) {
    const title = str(q.title) || (str(q.content_type) === 'user_email' ? 'Send e-mail address' : 'Send phone number');
    c.quick.push({ title, payload: str(q.payload), tap: 'quick_reply' });
  }
  if (m.template) {
    c.note = 'Template ' + str(obj(m.template).name);
    c.text = parametersOf(obj(m.template));
  }
  for (const a of [...(m.attachment ? [obj(m.attachment)] : []), ...arr(m.attachments)]) attach(c, a);
  return c;
}

function attach(c: Content, a: Json) {
  const p = obj(a.payload);
  if (str(a.type) !== 'template') {
    const url = str(p.url);
    c.file = { kind: str(a.type) === 'file' ? 'document' : str(a.type), name: url ? fileName(url) : 'upload ' + str(p.attachment_id), url };
    return;
  }
  if (str(p.template_type) === 'button') {
    c.text = str(p.text);
    c.buttons = arr(p.buttons).map(buttonOf);
    return;
  }
  c.cards = arr(p.elements).map((e) => ({
    title: str(e.title),
    subtitle: str(e.subtitle) || undefined,
    image: str(e.image_url) || undefined,
    buttons: arr(e.buttons).map(buttonOf),
  }));
}

function parametersOf(t: Json): string {
  const texts = arr(t.components).flatMap((part) => arr(part.parameters).map((p) => str(p.text) || str(p.payload)));
  return texts.filter(Boolean).join(' · ');
}

/** WhatsApp. */
function ofNumber(m: Json): Content {
  const c = empty();
  const type = str(m.type) || 'text';
  const value = obj(m[type]);
  c.about = str(obj(m.context).message_id) || undefined;
  switch (type) {
    case 'text':
      c.text = str(value.body);
      break;
    case 'interactive':
      interact(c, value);
      break;
    case 'location':
      c.place = { name: str(value.name) || 'Location', address: str(value.address) || undefined, latitude: Number(value.latitude), longitude: Number(value.longitude) };
      break;
    case 'template':
      c.note = 'Template ' + str(value.name);
      c.text = parametersOf(value);
      for (const part of arr(value.components)) {
        if (str(part.type) === 'button' && str(part.sub_type) === 'quick_reply') {
          const payload = str(arr(part.parameters)[0]?.payload);
          c.buttons.push({ title: payload || 'Button', payload, tap: 'template' });
        }
      }
      break;
    case 'image':
    case 'video':
    case 'audio':
    case 'document':
    case 'sticker': {
      const url = str(value.link);
      c.text = str(value.caption);
      c.file = { kind: type, name: str(value.filename) || (url ? fileName(url) : 'upload ' + str(value.id)), url };
      break;
    }
    default:
      c.note = type;
  }
  return c;
}

function interact(c: Content, i: Json) {
  const action = obj(i.action);
  c.text = str(obj(i.body).text);
  c.header = str(obj(i.header).text) || undefined;
  c.footer = str(obj(i.footer).text) || undefined;
  const parameters = obj(action.parameters);
  switch (str(i.type)) {
    case 'button':
      c.buttons = arr(action.buttons).map((b) => ({ title: str(obj(b.reply).title), payload: str(obj(b.reply).id), tap: 'button' }));
      break;
    case 'list':
      c.list = {
        button: str(action.button),
        sections: arr(action.sections).map((s) => ({
          title: str(s.title) || undefined,
          rows: arr(s.rows).map((r) => ({ title: str(r.title), payload: str(r.id), about: str(r.description) || undefined, tap: 'list' })),
        })),
      };
      break;
    case 'cta_url':
      c.buttons = [{ title: str(parameters.display_text), payload: '', url: str(parameters.url), tap: 'button' }];
      break;
    case 'location_request_message':
      c.asksPlace = true;
      break;
    case 'flow':
      c.note = 'Form: ' + str(parameters.flow_cta);
      break;
    default:
      c.note = str(i.type);
  }
}

/** A line that stands for a message in a list. */
export function summaryOf(b: Bubble, platform: Platform): string {
  const c = contentOf(b, platform);
  return c.text || c.file?.name || c.place?.name || c.cards[0]?.title || c.note || '';
}
