import { ApiProperty } from '@nestjs/swagger';

/** A user who has logged in at Keycloak. */
export class KeycloakLoginDto {
  @ApiProperty()
  readonly userId: string;

  @ApiProperty({ description: 'Bearer token for GET /keycloak/me.' })
  readonly accessToken: string;

  @ApiProperty({ description: 'Whether the tokens of the identity provider were imported from Keycloak.' })
  readonly isImported: boolean;

  constructor(userId: string, accessToken: string, isImported: boolean) {
    this.userId = userId;
    this.accessToken = accessToken;
    this.isImported = isImported;
  }
}
