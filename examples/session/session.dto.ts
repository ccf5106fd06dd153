import { ApiProperty } from '@nestjs/swagger';

/** A session of this application; it has nothing to do with the tokens of the identity provider. */
export class SessionDto {
  @ApiProperty({ description: 'Send it as "Authorization: Bearer …".' })
  readonly sessionToken: string;

  @ApiProperty({ description: 'In seconds.', example: 900 })
  readonly expiresIn: number;

  constructor(sessionToken: string, expiresIn: number) {
    this.sessionToken = sessionToken;
    this.expiresIn = expiresIn;
  }
}

/** Who is signed in. */
export class SessionUserDto {
  @ApiProperty({ type: String, nullable: true, description: 'Null if there is no session.', example: 'alice' })
  readonly userId: string | null;

  constructor(userId: string | null) {
    this.userId = userId;
  }
}
