import { type DataSource, Migration, MigrationExecutor, type MigrationInterface, type QueryRunner } from 'typeorm';

/** Runs the given migrations in place of those of the data source, and records them as TypeORM's command line does. */
export class TokensMigrationExecutor extends MigrationExecutor {
  constructor(
    dataSource: DataSource,
    queryRunner: QueryRunner,
    private readonly own: readonly (new () => MigrationInterface)[],
  ) {
    super(dataSource, queryRunner);
  }

  /** The given migrations in their order, whatever the data source lists. */
  protected override getMigrations(): Migration[] {
    return this.own.map(
      (migration) => new Migration(undefined, Number(migration.name.slice(-13)), migration.name, new migration()),
    );
  }
}
