import pg from 'pg';

/** A transaction of the host that locks the rows of some users, as an UPDATE does until its transaction ends. */
export class RowLock {
  #client: pg.Client | undefined;

  constructor(
    private readonly databaseUrl: string,
    private readonly users: readonly string[],
    private readonly place: { table: string; user: string } = { table: 'auth_tokens', user: 'keycloak_user_id' },
  ) {}

  async take(): Promise<void> {
    const client = new pg.Client({ connectionString: this.databaseUrl });
    await client.connect();
    this.#client = client;
    await client.query('BEGIN');
    const { table, user } = this.place;
    await client.query(`SELECT FROM ${table} WHERE ${user} = ANY($1) FOR UPDATE`, [this.users]);
  }

  async release(): Promise<void> {
    await this.#client?.end();
    this.#client = undefined;
  }
}
