import { describe, expect, it } from 'vitest';
import { ApiProblem } from '$lib/api/problem';
import { checkEmail, checkNewPassword } from './checks';
import { Form } from './form.svelte';

function emailForm(value: { email: string }) {
  return new Form({ email: () => checkEmail(value.email) });
}

const refusal = (over: Partial<ApiProblem>) =>
  new ApiProblem({
    status: 422,
    code: 'invalid',
    title: 'invalid',
    detail: 'the address is taken',
    ...over,
  });

describe('form', () => {
  it('is silent until a field was left or the form was sent', async () => {
    const form = emailForm({ email: '' });
    expect(form.error('email')).toBeUndefined();
    form.touch('email');
    expect(form.error('email')).toBe('Enter your email address');
  });

  it('sends nothing while a field is wrong, and names the field', async () => {
    const form = emailForm({ email: 'ada' });
    let sent = 0;
    const wrong = await form.submit(async () => {
      sent += 1;
    });
    expect([wrong, sent]).toEqual(['email', 0]);
  });

  it('puts a refusal at its field, until that is changed', async () => {
    const form = emailForm({ email: 'ada@x.dev' });
    const wrong = await form.submit(async () => {
      throw refusal({ field: 'email', hint: 'sign in instead' });
    });
    expect(wrong).toBe('email');
    expect(form.error('email')).toBe('The address is taken. Sign in instead');
    expect(form.problem).toBeUndefined();
    form.changed('email');
    expect(form.error('email')).toBeUndefined();
  });

  it('keeps other refusals for the whole form and remembers when to come back', async () => {
    const form = emailForm({ email: 'ada@x.dev' });
    const before = Date.now();
    await form.submit(async () => {
      throw refusal({ status: 429, code: 'rate_limited', retryAfterS: 30 });
    });
    expect(form.problem?.code).toBe('rate_limited');
    expect(form.notBefore).toBeGreaterThanOrEqual(before + 30_000);
    expect(form.busy).toBe(false);
  });

  it('a second press while it is being sent does nothing', async () => {
    const form = emailForm({ email: 'ada@x.dev' });
    let sent = 0;
    let finish = () => {};
    const send = () =>
      new Promise<void>((resolve) => {
        sent += 1;
        finish = resolve;
      });
    const first = form.submit(send);
    await form.submit(send);
    finish();
    await first;
    expect(sent).toBe(1);
  });
});

describe('checks', () => {
  it.each([
    ['', 'Enter your email address'],
    ['ada', 'An email address has an @ in it'],
    ['@x.dev', 'The part before the @ is missing'],
    ['ada@', 'The part after the @ is missing'],
    ['ada love@x.dev', 'An email address has no spaces'],
    ['ada@localhost', undefined],
    [' ada@x.dev ', undefined],
  ])('email %s', (email, error) => expect(checkEmail(email)).toBe(error));

  it('a password says how much is missing, counting characters and not bytes', () => {
    expect(checkNewPassword('short')).toBe('7 more characters: at least 12 in all');
    expect(checkNewPassword('🦀'.repeat(11))).toBe('1 more character: at least 12 in all');
    expect(checkNewPassword('🦀'.repeat(12))).toBeUndefined();
  });
});
