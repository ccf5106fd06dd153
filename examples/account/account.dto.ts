import { ApiProperty } from '@nestjs/swagger';
import type { IdpToken } from 'nestjs-idp-tokens';

/** The account of the user as the identity provider describes it, and the token with which the application asked. */
export class AccountDto {
  @ApiProperty({ example: 'alice' })
  readonly userId: string;

  @ApiProperty({ description: 'The name of the account in this application; empty for the default account.' })
  readonly account: string;

  @ApiProperty({ description: 'Id of the account at the provider.', example: 'alice-at-demo' })
  readonly accountId: string;

  @ApiProperty({ description: 'The version of the stored tokens. A refresh changes it.' })
  readonly tokenVersion: string;

  @ApiProperty({ example: '2026-11-24T12:00:00.000Z' })
  readonly tokenExpiresAt: string;

  constructor(userId: string, accountId: string, token: IdpToken) {
    this.userId = userId;
    this.account = token.account;
    this.accountId = accountId;
    this.tokenVersion = token.version;
    this.tokenExpiresAt = new Date(token.expiresAt * 1000).toISOString();
  }
}

/** The email address of an account. */
export class EmailDto {
  @ApiProperty({ example: 'alice-at-demo@demo.example' })
  readonly email: string;

  constructor(email: string) {
    this.email = email;
  }
}
