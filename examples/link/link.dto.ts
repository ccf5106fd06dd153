import { ApiProperty } from '@nestjs/swagger';

/** The next step of linking an account. */
export class AuthorizationDto {
  @ApiProperty({ description: 'Open it in the same browser, in a new tab.' })
  readonly authorizationUrl: string;

  constructor(authorizationUrl: string) {
    this.authorizationUrl = authorizationUrl;
  }
}

/** The result of linking an account. */
export class LinkedDto {
  readonly message: string;

  constructor(userId: string) {
    this.message = `The account of ${userId} at demo is linked. Go back to /docs and call GET /me.`;
  }
}
