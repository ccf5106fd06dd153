/**
 * A program that signs users up in a host application, whose module it gets as an argument. It prints as JSON what
 * became of them. The host exports `AppModule` and `Signup`, which stores the tokens of a user before the user.
 */
export const signUpProgram = `
import { NestFactory } from '@nestjs/core';
import { runTokenMigrations, TokenManager } from 'nestjs-idp-tokens';
import { DataSource } from 'typeorm';

const { AppModule, Signup } = await import(process.argv[2]);
const migrated = await new DataSource({ type: 'postgres', url: process.env.DATABASE_URL, entities: [] }).initialize();
await runTokenMigrations(migrated);
await migrated.destroy();
const app = await NestFactory.createApplicationContext(AppModule, { logger: ['error', 'warn'], abortOnError: false });
const dataSource = app.get(DataSource);
const tokens = app.get(TokenManager);
await dataSource.query('CREATE TABLE users (id text PRIMARY KEY)');
await dataSource.query("INSERT INTO users VALUES ('taken'), ('rival')");

const outcomeOf = (call) => call.then(() => 'done', (error) => error.driverError?.code ?? error.code ?? error.name);
const signUp = (user) => outcomeOf(app.get(Signup).signUp(user, { accessToken: 'token of ' + user }));
const tokenOf = (user) =>
  tokens.getIdpToken(user, 'github').then(({ accessToken }) => accessToken, (error) => error.code);
const store = (user) => outcomeOf(tokens.storeIdpTokens(user, 'github', { accessToken: 'token of ' + user }));
const outcomes = {
  committed: [await signUp('ada'), await tokenOf('ada')],
  rolledBack: [await signUp('taken'), await tokenOf('taken')],
  atOnce: await Promise.all(['grace', 'rival', 'edsger'].map(signUp)),
  tokensAtOnce: await Promise.all(['grace', 'rival', 'edsger'].map(tokenOf)),
  outside: [await store('alan'), await tokenOf('alan')],
};
const { totalCount, idleCount, waitingCount } = dataSource.driver.master;
console.log(JSON.stringify({ ...outcomes, connectionsInUse: totalCount - idleCount + waitingCount }));
await app.close();
`;
