import { type DataSource, Migration, MigrationExecutor, type MigrationInterface, type QueryRunner } from 'typeorm';

/** Runs the given migrations and not those of the data source. Records them as TypeORM's command line does. */
export class TokensMigrationExecutor extends MigrationExecutor {
  constructor(
    private readonly source: DataSource,
    private readonly runner: QueryRunner,
    private readonly own: readonly (new () => MigrationInterface)[],
  ) {
    super(source, runner);
  }

  /**
   * Returns the migrations that the database records. It creates no table. TypeORM before 0.3.29 would create the
   * migrations table here, before this process has the lock, and parallel creations fail.
   */
  override async getExecutedMigrations(): Promise<Migration[]> {
    const { driver, options } = this.source;
    const table = driver.buildTableName(options.migrationsTableName ?? 'migrations', driver.schema, driver.database);
    return (await this.runner.hasTable(table)) ? super.getExecutedMigrations() : [];
  }

  /** Returns the given migrations in their order. The `migrations` of the data source have no effect. */
  protected override getMigrations(): Migration[] {
    return this.own.map(
      (migration) => new Migration(undefined, Number(migration.name.slice(-13)), migration.name, new migration()),
    );
  }
}
