import { applyDecorators, SetMetadata } from '@nestjs/common';

/**
 * What the documents of `@nestjs/swagger` say about a route. They read it from metadata of these names, so the module
 * needs no import of a package that the host may not have.
 */
interface RouteDescription {
  readonly 'swagger/apiOperation': { readonly summary: string };
  readonly 'swagger/apiParameters'?: readonly object[];
  readonly 'swagger/apiResponse': Readonly<Record<number, { readonly description: string; readonly schema?: object }>>;
}

/** Describes a route for `@nestjs/swagger`. It has no effect in a host without this package. */
export function described(description: RouteDescription): MethodDecorator {
  return applyDecorators(...Object.entries(description).map(([key, value]) => SetMetadata(key, value)));
}

// `type: String` keeps `@nestjs/swagger` from looking for a class. The schema takes precedence over it.
const TEXT = { type: 'string' };
const TEXT_OR_NULL = { type: 'string', nullable: true };
const TIME_OR_NULL = { type: 'string', format: 'date-time', nullable: true };
const SCOPES = { type: 'array', items: TEXT, nullable: true };
const ACCOUNT = { idp: TEXT, account: TEXT, subject: TEXT_OR_NULL, name: TEXT_OR_NULL, scopes: SCOPES };
const PROBLEM = { description: 'A problem (RFC 9457) whose code and reason say what to do.' };
const REFUSALS = { 400: PROBLEM, 401: { description: 'The request has no user.' }, 503: PROBLEM };

export const LIST: RouteDescription = {
  'swagger/apiOperation': { summary: 'List the connected accounts' },
  'swagger/apiResponse': {
    200: {
      description: 'The connected accounts, without a token.',
      schema: {
        type: 'array',
        items: {
          type: 'object',
          properties: {
            ...ACCOUNT,
            hasRefreshToken: { type: 'boolean' },
            state: { type: 'string', enum: ['active', 'reauthentication_required'] },
            connectedAt: { type: 'string', format: 'date-time' },
            refreshedAt: { type: 'string', format: 'date-time' },
            accessTokenExpiresAt: TIME_OR_NULL,
            refreshTokenExpiresAt: TIME_OR_NULL,
          },
        },
      },
    },
  },
};

export const BEGIN: RouteDescription = {
  'swagger/apiOperation': { summary: 'Begin to connect an account' },
  'swagger/apiParameters': [
    {
      ...{ in: 'body', type: String },
      required: false,
      schema: {
        type: 'object',
        properties: {
          scopes: { type: 'array', items: TEXT },
          returnTo: TEXT,
          account: TEXT,
          replaceAccount: { type: 'boolean' },
        },
      },
    },
  ],
  'swagger/apiResponse': {
    201: {
      description: 'Open authorizationUrl in the browser.',
      schema: {
        type: 'object',
        properties: { authorizationUrl: TEXT, expiresAt: { type: 'string', format: 'date-time' } },
      },
    },
    ...REFUSALS,
  },
};

const ANSWER = ['state', 'code', 'iss', 'error'];

export const CALLBACK: RouteDescription = {
  'swagger/apiOperation': { summary: 'Finish in the browser of a user with a session cookie' },
  'swagger/apiParameters': ANSWER.map((name) => ({
    in: 'query',
    type: String,
    name,
    required: name === 'state',
    schema: TEXT,
  })),
  'swagger/apiResponse': { 303: { description: 'The account is connected.' }, ...REFUSALS, 403: PROBLEM },
};

export const FINISH: RouteDescription = {
  'swagger/apiOperation': { summary: 'Finish with the query that the provider sent' },
  'swagger/apiParameters': [
    {
      ...{ in: 'body', type: String },
      required: true,
      schema: { type: 'object', properties: Object.fromEntries(ANSWER.map((name) => [name, TEXT])) },
    },
  ],
  'swagger/apiResponse': {
    200: {
      description: 'The account is connected.',
      schema: { type: 'object', properties: { ...ACCOUNT, returnTo: TEXT_OR_NULL } },
    },
    ...REFUSALS,
    403: PROBLEM,
  },
};

export const UNLINK: RouteDescription = {
  'swagger/apiOperation': { summary: 'Disconnect an account' },
  'swagger/apiParameters': [{ in: 'query', type: String, name: 'account', required: false, schema: TEXT }],
  'swagger/apiResponse': { 204: { description: 'The account is not connected any more.' }, ...REFUSALS },
};
