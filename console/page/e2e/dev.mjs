// Plays the page of parley dev in a headless Chromium, and takes pictures. PARLEY is the
// program, CHROMIUM the browser.
import { chromium } from 'playwright-core';
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const paintLimit = 3000; // ms, from the start of the program
const out = new URL('../out/', import.meta.url).pathname;
mkdirSync(out, { recursive: true });

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox'] });
const problems = [];

/** Starts parley dev, and gives back its address. */
async function start(...args) {
  const began = Date.now();
  const program = spawn(process.env.PARLEY, ['dev', '--listen', '127.0.0.1:0', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  const url = await new Promise((resolve, reject) => {
    program.once('exit', (code) => reject(new Error(`parley dev ended with ${code}`)));
    createInterface(program.stderr).on('line', (line) => line.startsWith('Chat') && resolve(line.slice(4).trim()));
  });
  const stop = () =>
    new Promise((resolve) => {
      program.removeAllListeners('exit');
      program.once('exit', resolve);
      program.kill('SIGTERM');
    });
  return { url, began, stop };
}

async function open(url, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 }, locale: 'en-GB', ...options });
  page.setDefaultTimeout(15_000);
  page.on('console', (m) => ['error', 'warning'].includes(m.type()) && problems.push(`console: ${m.text()} ${m.location().url}`));
  page.on('pageerror', (e) => problems.push(`script: ${e.message}`));
  page.on('request', (r) => r.url().startsWith(url) || r.url().startsWith('data:') || problems.push(`asked for ${r.url()}`));
  await page.goto(url);
  return page;
}

function must(holds, what) {
  if (!holds) throw new Error(what);
}

const chatOf = (page, name) => page.getByRole('log', { name: `Messages of ${name}` });
const theirs = (page, name) => chatOf(page, name).locator('.row:not(.mine) .bubble:not(.dots)');
const tap = (page, name) => page.getByRole('button', { name, exact: true }).click();

async function say(page, name, text) {
  const box = page.getByLabel(`Message as ${name}`);
  await box.fill(text);
  await box.press('Enter');
}

/** Waits until the business has said so many messages, of which the last has words. */
async function heard(page, name, n, words) {
  await theirs(page, name).nth(n - 1).filter({ hasText: words }).waitFor();
}

/** Orders a pizza through a jump, duplicates and a kill. */
async function order(stage) {
  const page = await open(stage.url);
  await page.getByLabel('Message as Ada').waitFor();
  const painted = await page.evaluate(() => performance.timeOrigin + performance.getEntriesByName('first-contentful-paint')[0].startTime);
  const paint = Math.round(painted - stage.began);
  console.log(`first paint ${paint} ms after the start of the program`);
  must(paint < paintLimit, `first paint after ${paint} ms, want ${paintLimit}`);

  await say(page, 'Ada', 'Hello');
  await heard(page, 'Ada', 1, 'Which pizza');
  await page.getByText('reminder', { exact: true }).first().waitFor();
  await tap(page, 'Margherita');
  await heard(page, 'Ada', 2, 'What size');
  await page.screenshot({ path: out + 'order-light.png' });

  await tap(page, '+30 min');
  await heard(page, 'Ada', 3, 'still hungry');
  await heard(page, 'Ada', 4, 'What size');

  await page.getByRole('switch', { name: 'Duplicates' }).click();
  await tap(page, 'kill -9');
  await page.getByRole('status').filter({ hasText: 'killed' }).waitFor();
  await tap(page, 'Large');
  await page.screenshot({ path: out + 'killed.png' });
  await heard(page, 'Ada', 5, 'A large Margherita. Shall I order it?');
  await chatOf(page, 'Ada').getByText('delivered 2 times').first().waitFor();
  await tap(page, 'Yes');
  await heard(page, 'Ada', 6, 'A large Margherita is on its way');
  await page.getByText('came again, and took no effect').first().waitFor();
  await chatOf(page, 'Ada').getByText('delivered 2 times').nth(1).waitFor();
  must((await theirs(page, 'Ada').count()) === 6, `${await theirs(page, 'Ada').count()} replies, want 6`);
  must((await chatOf(page, 'Ada').locator('.row.mine').count()) === 4, 'not all that Ada said is there');
  await page.screenshot({ path: out + 'ordered-light.png' });
  const [saved] = await Promise.all([page.waitForEvent('download'), tap(page, 'Save as a test')]);
  must(saved.suggestedFilename() === 'pizza-ada.txt', `saved as ${saved.suggestedFilename()}`);
  const text = readFileSync(await saved.path(), 'utf8');
  must(/^platform messenger\n[^]*\nada: Hello\n[^]*\nbot: Are you still hungry\?[^]*on its way\.\n$/.test(text), `saved: ${text}`);
  await page.getByRole('switch', { name: 'Duplicates' }).click();
  return page;
}

/** Shows the three platforms beside each other, and goes through it by keyboard. */
async function platforms(page) {
  await page.getByRole('button', { name: 'Show Bruno beside' }).focus();
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Show Chen beside' }).focus();
  await page.keyboard.press('Enter');
  for (const name of ['Bruno', 'Chen']) {
    await say(page, name, 'Hi there');
    await heard(page, name, 1, 'Which pizza');
  }
  await chatOf(page, 'Chen').getByRole('button', { name: 'Funghi' }).click();
  await heard(page, 'Chen', 2, 'One Funghi');
  await page.getByLabel('Message as Bruno').focus();
  await page.keyboard.press('Shift+Tab');
  await page.keyboard.press('Enter');
  await page.screenshot({ path: out + 'menu-light.png' });
  await page.keyboard.press('Tab');
  await page.keyboard.press('Shift+Tab');
  await page.keyboard.press('Escape');
  must((await page.getByRole('button', { name: 'Voice message' }).count()) === 0, 'Escape leaves the menu open');
  await page.screenshot({ path: out + 'platforms-light.png' });
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.screenshot({ path: out + 'platforms-dark.png' });
  await page.setViewportSize({ width: 420, height: 860 });
  await page.screenshot({ path: out + 'narrow-dark.png', fullPage: true });
}

/** Has each sort of message shown, and answers what can be. */
async function gallery(stage) {
  const page = await open(stage.url);
  await page.getByLabel('Bot').selectOption('gallery');
  await page.locator('.who b').first().filter({ hasText: 'gallery' }).waitFor();
  await page.getByRole('button', { name: 'Show Chen beside' }).click();
  await page.getByRole('button', { name: /^Ada/ }).first().click();
  for (const what of ['cards', 'buttons', 'image']) {
    const n = await theirs(page, 'Ada').count();
    await say(page, 'Ada', what);
    await theirs(page, 'Ada').nth(n).waitFor({ state: 'attached' });
  }
  await chatOf(page, 'Ada').getByRole('button', { name: 'Fine' }).click();
  await theirs(page, 'Ada').filter({ hasText: 'You pressed Fine' }).waitFor();
  await say(page, 'Ada', 'reaction');
  await chatOf(page, 'Ada').locator('.mine .reaction').waitFor();
  await page.screenshot({ path: out + 'messenger-light.png' });
  await page.getByRole('button', { name: 'Show Chen beside' }).click();
  for (const what of ['list', 'location', 'template', 'document', 'place']) {
    const n = await theirs(page, 'Chen').count();
    await say(page, 'Chen', what);
    await theirs(page, 'Chen').nth(n).waitFor();
  }
  await chatOf(page, 'Chen').getByRole('button', { name: 'Send location' }).click();
  await chatOf(page, 'Chen').locator('.mine .place').waitFor();
  await chatOf(page, 'Chen').getByRole('button', { name: 'Dishes' }).click();
  await page.getByRole('dialog').getByRole('button', { name: /Diavola/ }).waitFor();
  await page.screenshot({ path: out + 'list-light.png' });
  await page.getByRole('dialog').getByRole('button', { name: /Diavola/ }).click();
  await chatOf(page, 'Chen').locator('.mine .bubble').filter({ hasText: 'Diavola' }).waitFor();
  await say(page, 'Chen', 'typing');
  await chatOf(page, 'Chen').locator('.dots').waitFor();
  await theirs(page, 'Chen').filter({ hasText: 'took me a while' }).waitFor();
  await chatOf(page, 'Chen').locator('.row:not(.mine)').last().hover();
  await chatOf(page, 'Chen').locator('.row:not(.mine)').last().getByRole('button', { name: 'React' }).click();
  await page.screenshot({ path: out + 'react-light.png' });
  await page.getByRole('button', { name: '👍' }).click();
  await theirs(page, 'Chen').last().locator('.reaction').waitFor();
  await page.getByRole('button', { name: 'Close Chen' }).click();
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.getByRole('button', { name: /^Chen/ }).first().click();
  await page.screenshot({ path: out + 'whatsapp-dark.png' });
}

const stage = await start('--bot', 'pizza');
let failed;
try {
  await platforms(await order(stage));
  await gallery(stage);
} catch (e) {
  failed = e;
  for (const context of browser.contexts()) for (const page of context.pages()) await page.screenshot({ path: out + 'failed.png' });
}
await browser.close();
await stage.stop();
for (const p of problems) console.error(p);
if (failed || problems.length) {
  console.error(failed ?? 'the browser complained');
  process.exit(1);
}
console.log(`the page does what it should; pictures are in ${out}`);
