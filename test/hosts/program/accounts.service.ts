import { Injectable } from '@nestjs/common';
import { QueryRunnerScope, TokenManager } from 'nestjs-idp-tokens';
import { DataSource } from 'typeorm';

@Injectable()
export class AccountsService {
  constructor(
    private readonly tokens: TokenManager,
    private readonly scope: QueryRunnerScope,
    private readonly dataSource: DataSource,
  ) {}

  /** Stores the token in a transaction of the host. */
  connect(userId: string, accessToken: string) {
    return this.dataSource.transaction(({ queryRunner }) =>
      this.scope.join(queryRunner!, () => this.tokens.storeIdpTokens(userId, 'github', { accessToken })),
    );
  }

  // Without a return type, as most services are written. The compiler must be able to name the type.
  token(userId: string) {
    return this.tokens.getIdpToken(userId, 'github');
  }
}
