import 'reflect-metadata';

import { DataSource } from 'typeorm';

import { tokensMigrations } from './src/postgres/run-token-migrations.js';
import { tokensEntities } from './src/storage/tokens-entities.js';

/** The data source of the TypeORM command line; DATABASE_URL says which database, the PG* variables where it is not set. */
export default new DataSource({
  type: 'postgres',
  url: process.env.DATABASE_URL,
  entities: tokensEntities,
  migrations: tokensMigrations,
});
