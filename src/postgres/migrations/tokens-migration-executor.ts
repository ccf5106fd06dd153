import { type DataSource, Migration, MigrationExecutor, type MigrationInterface, type QueryRunner } from 'typeorm';

/** Runs the given migrations and not those of the data source. Records them as TypeORM's command line does. */
export class TokensMigrationExecutor extends MigrationExecutor {
  constructor(
    dataSource: DataSource,
    queryRunner: QueryRunner,
    private readonly own: readonly (new () => MigrationInterface)[],
  ) {
    super(dataSource, queryRunner);
  }

  /** Returns the given migrations in their order. The `migrations` of the data source have no effect. */
  protected override getMigrations(): Migration[] {
    return this.own.map(
      (migration) => new Migration(undefined, Number(migration.name.slice(-13)), migration.name, new migration()),
    );
  }
}
