import 'reflect-metadata';

import { DataSource } from 'typeorm';

import { tokensMigrations } from './src/postgres/run-token-migrations.js';
import { tokensEntities } from './src/storage/tokens-entities.js';

/** The data source of the TypeORM command line. DATABASE_URL names the database, or else the PG* variables do. */
export default new DataSource({
  type: 'postgres',
  url: process.env.DATABASE_URL,
  entities: tokensEntities,
  migrations: tokensMigrations,
});
