// @vitest-environment node
import openapiTS, { astToString } from 'openapi-typescript';
import { expect, it } from 'vitest';
import document from '../../../openapi.json';
import written from './schema.d.ts?raw';

it('the API types are those of openapi.json; otherwise run `npm run api`', async () => {
  const generated = astToString(await openapiTS(JSON.stringify(document)));
  expect(written.slice(written.indexOf('export interface paths'))).toBe(
    generated.slice(generated.indexOf('export interface paths')),
  );
}, 30_000);
