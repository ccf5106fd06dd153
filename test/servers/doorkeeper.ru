# A host of Doorkeeper, for doorkeeper.ts. The routes beside those of OAuth do what is the part of a host: they create
# and delete users. The server ends when its standard input does.
require 'action_controller/railtie'
require 'active_record'
require 'doorkeeper'

class Server < Rails::Application
  config.load_defaults 6.1
  config.eager_load = false
  config.hosts.clear
  config.secret_key_base = 'a secret of this test server'
  config.logger = Logger.new($stderr)
  config.log_level = :warn
  config.action_controller.allow_forgery_protection = false
end

ActiveRecord::Base.establish_connection(
  adapter: 'sqlite3', database: ENV.fetch('DOORKEEPER_DATABASE'), pool: 16, timeout: 10_000
)

Doorkeeper.configure do
  orm :active_record
  resource_owner_authenticator { User.find_by(name: request.headers['X-User']) || head(:unauthorized) }
  skip_authorization { true }
  default_scopes :api
  optional_scopes :brief
  use_refresh_token
  access_token_expires_in 2.hours
  custom_access_token_expires_in { |context| context.scopes.include?('brief') ? 3.seconds : nil }
  force_ssl_in_redirect_uri false
end

Server.initialize!

ActiveRecord::Schema.verbose = false
ActiveRecord::Schema.define do
  create_table(:users) { |t| t.string :name, null: false, index: { unique: true } }
  create_table :oauth_applications do |t|
    t.string :name, null: false
    t.string :uid, null: false, index: { unique: true }
    t.string :secret, null: false
    t.text :redirect_uri, null: false
    t.string :scopes, null: false, default: ''
    t.boolean :confidential, null: false, default: true
    t.timestamps
  end
  create_table :oauth_access_grants do |t|
    t.references :resource_owner, null: false
    t.references :application, null: false
    t.string :token, null: false, index: { unique: true }
    t.integer :expires_in, null: false
    t.text :redirect_uri, null: false
    t.datetime :created_at, null: false
    t.datetime :revoked_at
    t.string :scopes, null: false, default: ''
    t.string :code_challenge
    t.string :code_challenge_method
  end
  create_table :oauth_access_tokens do |t|
    t.references :resource_owner
    t.references :application, null: false
    t.string :token, null: false, index: { unique: true }
    t.string :refresh_token, index: { unique: true }
    t.integer :expires_in
    t.datetime :revoked_at
    t.datetime :created_at, null: false
    t.string :scopes
    t.string :previous_refresh_token, null: false, default: '' if ENV['DOORKEEPER_COLUMNS'] == 'previous_refresh_token'
  end
end

class User < ActiveRecord::Base
  has_many :grants, class_name: 'Doorkeeper::AccessGrant', foreign_key: :resource_owner_id, dependent: :delete_all
  has_many :tokens, class_name: 'Doorkeeper::AccessToken', foreign_key: :resource_owner_id, dependent: :delete_all
end

JSON.parse(ENV.fetch('DOORKEEPER_CLIENTS')).each { |client| Doorkeeper::Application.create!(client) }

class MeController < ActionController::API
  before_action -> { doorkeeper_authorize! :api }

  def show = render(json: { name: User.find(doorkeeper_token.resource_owner_id).name })
end

class UsersController < ActionController::API
  def create = render(json: User.create!(name: params[:name]))
  def destroy = render(json: User.find_by!(name: params[:name]).destroy!)
end

VERSIONS = "Doorkeeper #{Doorkeeper::VERSION::STRING} on Rails #{Rails::VERSION::STRING} and Ruby #{RUBY_VERSION}"

Server.routes.draw do
  use_doorkeeper
  get '/me', to: 'me#show'
  post '/users/:name', to: 'users#create'
  delete '/users/:name', to: 'users#destroy'
  get '/versions', to: ->(_env) { [200, {}, [VERSIONS]] }
end

Thread.new do
  $stdin.read
  exit!(0)
end

run Server
