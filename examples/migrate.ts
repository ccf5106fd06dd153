import { runTokenMigrations } from 'nestjs-idp-tokens';
import { DataSource } from 'typeorm';

/**
 * Runs the missing migrations of the module, as a deployment does before it starts the application.
 *
 * @returns the names of the migrations that were missing
 */
export async function migrate(databaseUrl: string): Promise<string[]> {
  const dataSource = await new DataSource({ type: 'postgres', url: databaseUrl }).initialize();
  try {
    return await runTokenMigrations(dataSource);
  } finally {
    await dataSource.destroy();
  }
}
