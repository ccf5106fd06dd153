import { EventEmitter } from 'node:events';

import { describe, expect, it } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { ExecutionContextHost } from '@nestjs/core/helpers/execution-context-host.js';
import { lastValueFrom, type Observable } from 'rxjs';

import { type TokensError } from '../tokens-error.js';
import { ProviderMisconfiguredError, ReauthenticationRequiredError } from '../tokens.errors.js';
import { TokensExceptionFilter } from './tokens-exception.filter.js';

Logger.overrideLogger(false);

const subject = { keycloakUserId: 'user-named-in-no-answer', idp: 'acme' };
const ended = new ReauthenticationRequiredError(subject, 'refresh_rejected');
const refused = new ProviderMisconfiguredError(subject, 'invalid_client');
const filter = new TokensExceptionFilter(new HttpAdapterHost());

const endedMessage = {
  status: 'error',
  message: 'Connect the account at the identity provider again.',
  code: 'ERR_TOKENS_REAUTHENTICATION_REQUIRED',
  idp: 'acme',
  reason: 'refresh_rejected',
};

function catchIn(type: string, error: TokensError, ...args: unknown[]): unknown {
  const host = new ExecutionContextHost(args);
  host.setType(type);
  return filter.catch(error, host);
}

function thrownIn(type: string, error: TokensError): unknown {
  try {
    catchIn(type, error, {}, {}, {}, {});
  } catch (thrown) {
    return thrown;
  }
  throw new Error('The filter threw nothing.');
}

describe('TokensExceptionFilter', () => {
  it('sends the client of Socket.IO the event exception', () => {
    const emitted: unknown[] = [];
    const client = { emit: (...event: unknown[]) => emitted.push(event) };
    expect(catchIn('ws', ended, client, {}, 'pattern')).toBeUndefined();
    expect(emitted).toEqual([['exception', endedMessage]]);
  });

  it('sends a native client the event as text, because its emit reaches only this process', () => {
    const sent: string[] = [];
    const client = Object.assign(new EventEmitter(), { readyState: 1, send: (text: string) => sent.push(text) });
    client.on('exception', () => {
      throw new Error('The event was emitted here.');
    });
    expect(catchIn('ws', ended, client, {}, 'pattern')).toBeUndefined();
    expect(sent.map((text) => JSON.parse(text) as unknown)).toEqual([{ event: 'exception', data: endedMessage }]);
  });

  it('does not fail for a client that can send nothing', () => {
    expect(catchIn('ws', ended, {}, {}, 'pattern')).toBeUndefined();
    expect(catchIn('ws', ended)).toBeUndefined();
  });

  it('fails the observable of a message with what the sender may know', async () => {
    const answer = catchIn('rpc', ended, {}, {}) as Observable<never>;
    await expect(lastValueFrom(answer)).rejects.toEqual(endedMessage);
  });

  it.each<[string, unknown[]]>([
    ['without arguments', []],
    ['with a payload', [{}]],
    ['with a context that is no response', [{}, { end: () => undefined }]],
    ['with a response, but without an adapter', [{}, { setHeader: () => undefined, end: () => undefined }]],
  ])('throws what the caller may know in a call %s that Nest takes for HTTP', (_, args) => {
    for (const adapterHost of [new HttpAdapterHost(), Object.assign(new HttpAdapterHost(), { _httpAdapter: null })]) {
      expect(() => new TokensExceptionFilter(adapterHost).catch(refused, new ExecutionContextHost(args))).toThrow(
        expect.objectContaining({ message: 'The identity provider refuses this server.', cause: refused }),
      );
    }
  });

  it.each(['graphql', 'telegraf'])('throws what the caller may know in a call of type %s', (type) => {
    const thrown = thrownIn(type, refused);
    expect(thrown).toBeInstanceOf(Error);
    expect(thrown).toMatchObject({
      message: 'The identity provider refuses this server.',
      name: 'ProviderMisconfiguredError',
      extensions: { code: 'ERR_TOKENS_PROVIDER_MISCONFIGURED', status: 500, idp: 'acme' },
      cause: refused,
    });
    const shown = [String(thrown), (thrown as Error).stack, JSON.stringify(thrown)].join();
    expect(shown).not.toMatch(/user-named-in-no-answer|invalid_client/);
  });
});
