import { BadGatewayException, BadRequestException, Injectable } from '@nestjs/common';
import type { IdpTokens } from 'nestjs-idp-tokens';
import {
  authorizationCodeGrant,
  AuthorizationResponseError,
  buildAuthorizationUrl,
  calculatePKCECodeChallenge,
  ClientError,
  Configuration,
  fetchUserInfo,
  randomPKCECodeVerifier,
  randomState,
  ResponseBodyError,
  skipSubjectCheck,
  type UserInfoResponse,
  WWWAuthenticateChallengeError,
} from 'openid-client';

import { AppConfig } from '../app.config.js';

/** The URL to which the application sends the browser, and the secrets that check the answer. */
export interface AuthorizationRequest {
  readonly url: URL;
  readonly state: string;
  readonly codeVerifier: string;
}

/**
 * This application as a client of the identity provider `demo`. It does everything except the refresh, which the module
 * does.
 */
@Injectable()
export class DemoIdpClient {
  constructor(
    private readonly configuration: Configuration,
    private readonly config: AppConfig,
  ) {}

  /** Begins a code flow. @see RFC 6749 section 4.1, RFC 7636 */
  async requestAuthorization(): Promise<AuthorizationRequest> {
    const state = randomState();
    const codeVerifier = randomPKCECodeVerifier();
    const url = buildAuthorizationUrl(this.configuration, {
      redirect_uri: `${this.config.baseUrl}/link/callback`,
      scope: 'openid profile offline_access',
      prompt: 'consent', // without it the provider gives no refresh token
      state,
      code_challenge: await calculatePKCECodeChallenge(codeVerifier),
      code_challenge_method: 'S256',
    });
    return { url, state, codeVerifier };
  }

  /**
   * Exchanges the code that the browser brought back for tokens.
   *
   * @throws BadRequestException when the user declined, or the answer does not belong to the request
   */
  async exchangeCode(answer: URL, { state, codeVerifier }: Omit<AuthorizationRequest, 'url'>): Promise<IdpTokens> {
    // Taken before the request, so that no token seems to live longer than it does.
    const now = Math.floor(Date.now() / 1000);
    try {
      const tokens = await authorizationCodeGrant(this.configuration, answer, {
        expectedState: state,
        pkceCodeVerifier: codeVerifier,
      });
      return {
        accessToken: tokens.access_token,
        refreshToken: tokens.refresh_token,
        accessTokenExpiresAt: tokens.expires_in ? now + tokens.expires_in : 0,
      };
    } catch (error) {
      throw new BadRequestException(`The account was not linked: ${reasonOf(error)}.`, { cause: error });
    }
  }

  /**
   * Returns the account to which the access token belongs; `null` if the provider refuses the token.
   *
   * @throws BadGatewayException when the provider does not answer, or gives an unexpected answer
   */
  async findUserInfo(accessToken: string): Promise<UserInfoResponse | null> {
    try {
      // eslint-disable-next-line @typescript-eslint/no-deprecated -- deprecated only as a warning; this request asks for the subject
      return await fetchUserInfo(this.configuration, accessToken, skipSubjectCheck);
    } catch (error) {
      if (error instanceof WWWAuthenticateChallengeError && error.status === 401) return null;
      throw new BadGatewayException('The identity provider did not answer as expected.', { cause: error });
    }
  }
}

/** Returns a code and never a message or a body, because these may repeat what was sent. */
function reasonOf(error: unknown): string {
  if (error instanceof AuthorizationResponseError || error instanceof ResponseBodyError) return error.error;
  if (error instanceof ClientError && error.code) return error.code;
  return 'the identity provider cannot be reached';
}
